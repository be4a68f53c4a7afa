package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"

	"clients/phoneauth"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func text(value *string) string {
	if value == nil {
		return "null"
	}
	return *value
}

func main() {
	url, phone := os.Args[1], os.Args[2]
	ctx := context.Background()
	token := ""
	authorize := phoneauth.WithRequestEditorFn(func(_ context.Context, request *http.Request) error {
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		return nil
	})
	client := must(phoneauth.NewClientWithResponses(url, authorize))
	var markets []string
	for _, market := range must(client.ListMarketsWithResponse(ctx)).JSON200.SupportedMarkets {
		markets = append(markets, market.Market)
	}

	english := phoneauth.Language("en")
	sent := must(client.SendVerificationWithResponse(ctx, nil, phoneauth.CodeRequest{Phone: phone, Language: &english})).JSON200
	var code string
	must(fmt.Scanln(&code))
	wrongCode := "000000"
	if code == wrongCode {
		wrongCode = "000001"
	}
	wrong := must(client.VerifyCodeWithResponse(ctx, nil, phoneauth.LoginRequest{Phone: phone, VerificationCode: wrongCode})).ApplicationproblemJSON400
	login := must(client.VerifyCodeWithResponse(ctx, nil, phoneauth.LoginRequest{Phone: phone, VerificationCode: code})).JSON200
	token = login.AccessToken
	me := must(client.GetMeWithResponse(ctx)).JSON200
	fmt.Println(strings.Join(markets, ","), sent.Language, login.User.Market, login.IsNewUser, me.PhoneNumber, me.Market, text(me.FullName))
	fmt.Println(wrong.Code, *wrong.AttemptsRemaining)

	apartment, office := "12", "Office"
	created := must(client.CreateAddressWithResponse(ctx, phoneauth.NewAddress{Title: "Home", FullAddress: "Chuy 147", Apartment: &apartment})).JSON201.Address
	id := must(client.GetAddressWithResponse(ctx, created.Id)).JSON200.Address.Id
	changed := must(client.UpdateAddressWithResponse(ctx, id, phoneauth.AddressChanges{Title: &office})).JSON200.Address
	total := must(client.ListAddressesWithResponse(ctx)).JSON200.Total
	fmt.Println(created.Title, changed.Title, text(changed.Apartment), text(changed.Street), changed.IsDefault, total)
	must(client.DeleteAddressWithResponse(ctx, id))
	fmt.Println(must(client.GetAddressWithResponse(ctx, id)).ApplicationproblemJSON404.Code)

	fmt.Println(must(client.LogoutWithResponse(ctx)).JSON200.Success)
	fmt.Println(must(client.GetMeWithResponse(ctx)).ApplicationproblemJSON401.Code)
}
