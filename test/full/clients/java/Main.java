import java.io.IOException;
import java.util.Scanner;
import java.util.stream.Collectors;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.AddressesApi;
import org.openapitools.client.api.AuthApi;
import org.openapitools.client.api.UsersApi;
import org.openapitools.client.model.*;

public class Main {
    interface Call {
        void run() throws ApiException;
    }

    /** The problem with which a call fails. */
    static Problem problemOf(Call call) throws IOException {
        try {
            call.run();
        } catch (ApiException failure) {
            return Problem.fromJson(failure.getResponseBody());
        }
        throw new IllegalStateException("the call succeeded");
    }

    public static void main(String[] args) throws Exception {
        String phone = args[1];
        ApiClient client = new ApiClient().setBasePath(args[0]);
        AuthApi auth = new AuthApi(client);
        UsersApi users = new UsersApi(client);
        AddressesApi addresses = new AddressesApi(client);
        String markets = auth.listMarkets().getSupportedMarkets().stream().map(Market::getMarket).collect(Collectors.joining(","));

        CodeSent sent = auth.sendVerification(new CodeRequest().phone(phone).language(Language.EN), null, null);
        String code = new Scanner(System.in).next();
        String wrongCode = code.equals("000000") ? "000001" : "000000";
        Problem wrong = problemOf(() -> auth.verifyCode(new LoginRequest().phone(phone).verificationCode(wrongCode), null));
        Login login = auth.verifyCode(new LoginRequest().phone(phone).verificationCode(code), null);
        client.setBearerToken(login.getAccessToken());
        User me = users.getMe();
        System.out.println(markets + " " + sent.getLanguage() + " " + login.getUser().getMarket() + " " + login.getIsNewUser() + " "
            + me.getPhoneNumber() + " " + me.getMarket() + " " + me.getFullName());
        System.out.println(wrong.getCode() + " " + wrong.getAttemptsRemaining());

        Address created = addresses.createAddress(new NewAddress().title("Home").fullAddress("Chuy 147").apartment("12")).getAddress();
        int id = addresses.getAddress(created.getId()).getAddress().getId();
        Address changed = addresses.updateAddress(id, new AddressChanges().title("Office")).getAddress();
        System.out.println(created.getTitle() + " " + changed.getTitle() + " " + changed.getApartment() + " " + changed.getStreet() + " "
            + changed.getIsDefault() + " " + addresses.listAddresses().getTotal());
        addresses.deleteAddress(id);
        System.out.println(problemOf(() -> addresses.getAddress(id)).getCode());

        System.out.println(auth.logout().getSuccess());
        System.out.println(problemOf(() -> users.getMe()).getCode());
    }
}
