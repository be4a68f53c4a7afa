-- Asks phone-auth whose token a request has. Adds the user to the request, or sends the response of phone-auth.

local function ask (txn)
  local sent = txn.http:req_get_headers()
  local headers = { host = { "phone-auth" } }
  if sent["authorization"] then
    headers["authorization"] = {}
    -- All values: two Authorization headers are malformed, even if one of them is valid.
    for i = 0, #sent["authorization"] do table.insert(headers["authorization"], sent["authorization"][i]) end
  end
  return core.httpclient():get { url = "http://phone-auth/auth/verify-token", dst = "abns@verify-token", headers = headers, timeout = 5000 }
end

core.register_action("verify_token", { "http-req" }, function (txn)
  local answer = ask(txn)
  if answer.status == 200 then
    txn.http:req_set_header("X-User-Id", answer.headers["x-user-id"][0])
    txn.http:req_set_header("X-User-Market", answer.headers["x-user-market"][0])
    return
  end
  local reply = txn:reply { status = answer.status == 401 and 401 or 503 }
  for _, name in ipairs { "content-type", "cache-control", "www-authenticate", "retry-after", "x-request-id" } do
    if answer.headers[name] then reply:add_header(name, answer.headers[name][0]) end
  end
  reply:set_body(answer.body)
  txn:done(reply)
end)
