import sys

from phone_auth import AuthenticatedClient, Client
from phone_auth.api.addresses import create_address, delete_address, get_address, list_addresses, update_address
from phone_auth.api.auth import list_markets, logout, send_verification, verify_code
from phone_auth.api.users import get_me
from phone_auth.models import AddressChanges, CodeRequest, Language, LoginRequest, NewAddress, Problem


def problem(result):
    assert isinstance(result, Problem), result
    return result


def text(value):
    return {True: "true", False: "false", None: "null"}.get(value, value)


url, phone = sys.argv[1:]
client = Client(base_url=url)
markets = ",".join(market.market for market in list_markets.sync(client=client).supported_markets)

sent = send_verification.sync(client=client, body=CodeRequest(phone=phone, language=Language.EN))
code = input()
wrong_code = "000001" if code == "000000" else "000000"
wrong = problem(verify_code.sync(client=client, body=LoginRequest(phone=phone, verification_code=wrong_code)))
login = verify_code.sync(client=client, body=LoginRequest(phone=phone, verification_code=code))
client = AuthenticatedClient(base_url=url, token=login.access_token)
me = get_me.sync(client=client)
print(markets, sent.language, login.user.market, text(login.is_new_user), me.phone_number, me.market, text(me.full_name))
print(wrong.code, wrong.attempts_remaining)

created = create_address.sync(client=client, body=NewAddress(title="Home", full_address="Chuy 147", apartment="12")).address
id = get_address.sync(created.id, client=client).address.id
changed = update_address.sync(id, client=client, body=AddressChanges(title="Office")).address
total = list_addresses.sync(client=client).total
print(created.title, changed.title, changed.apartment, text(changed.street), text(changed.is_default), total)
delete_address.sync(id, client=client)
print(problem(get_address.sync(id, client=client)).code)

print(text(logout.sync(client=client).success))
print(problem(get_me.sync(client=client)).code)
