import org.openapitools.client.apis.AddressesApi
import org.openapitools.client.apis.AuthApi
import org.openapitools.client.apis.UsersApi
import org.openapitools.client.infrastructure.ApiClient
import org.openapitools.client.infrastructure.ClientError
import org.openapitools.client.infrastructure.ClientException
import org.openapitools.client.infrastructure.Serializer
import org.openapitools.client.models.AddressChanges
import org.openapitools.client.models.CodeRequest
import org.openapitools.client.models.Language
import org.openapitools.client.models.LoginRequest
import org.openapitools.client.models.NewAddress
import org.openapitools.client.models.Problem

/** The problem with which a call fails. */
fun problemOf(call: () -> Unit): Problem {
    try {
        call()
    } catch (failure: ClientException) {
        return Serializer.moshi.adapter(Problem::class.java).fromJson((failure.response as ClientError<*>).body as String)!!
    }
    throw IllegalStateException("the call succeeded")
}

fun main(args: Array<String>) {
    val (url, phone) = args
    val auth = AuthApi(url)
    val users = UsersApi(url)
    val addresses = AddressesApi(url)
    val markets = auth.listMarkets().supportedMarkets.joinToString(",") { it.market }

    val sent = auth.sendVerification(CodeRequest(phone, Language.en))
    val code = readln()
    val wrong = problemOf { auth.verifyCode(LoginRequest(phone, if (code == "000000") "000001" else "000000")) }
    val login = auth.verifyCode(LoginRequest(phone, code))
    ApiClient.accessToken = login.accessToken
    val me = users.getMe()
    println("$markets ${sent.language} ${login.user.market} ${login.isNewUser} ${me.phoneNumber} ${me.market} ${me.fullName}")
    println("${wrong.code} ${wrong.attemptsRemaining}")

    val created = addresses.createAddress(NewAddress("Home", "Chuy 147", apartment = "12")).address
    val id = addresses.getAddress(created.id).address.id
    val changed = addresses.updateAddress(id, AddressChanges(title = "Office")).address
    println("${created.title} ${changed.title} ${changed.apartment} ${changed.street} ${changed.isDefault} ${addresses.listAddresses().total}")
    addresses.deleteAddress(id)
    println(problemOf { addresses.getAddress(id) }.code)

    println(auth.logout().success)
    println(problemOf { users.getMe() }.code)
}
