const tokenKey = 'phone-auth.token'
const byId = (id) => document.getElementById(id)
const section = (step) => document.querySelector(`[data-step=${step}]`)

/** The number one is signed in with, in E.164, and its row as it was seen last; undefined before the first look. */
let phone
let row

const token = () => localStorage.getItem(tokenKey)

/** An element with text or other elements in it. */
function element (name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties)
  made.append(...children)
  return made
}

/** The place beside a step where its request, its answer and the row are shown. */
function traceOf (step) {
  const place = section(step).querySelector('.trace') ?? section(step).appendChild(element('div', { className: 'trace' }))
  place.replaceChildren()
  return place
}

const json = (value) => JSON.stringify(value, null, 2)
const short = (text) => text.length > 24 ? `${text.slice(0, 12)}…${text.slice(-8)}` : text

/** Sends a request and shows it beside its step. `bearer` is null for none; `isQuiet` shows nothing. */
async function call (step, method, path, { body, bearer = token(), isQuiet = false } = {}) {
  const response = await fetch(path, {
    method,
    headers: { ...bearer && { authorization: `Bearer ${bearer}` }, ...body && { 'content-type': 'application/json' } },
    ...body && { body: JSON.stringify(body) }
  })
  const text = await response.text()
  const answer = text ? JSON.parse(text) : undefined
  if (response.ok && answer?.phone_number) setPhone(answer.phone_number.replace(/[^\d+]/g, ''))
  if (!isQuiet) {
    const changes = await rowChanges()
    byId('status').textContent = `${method} ${path} answered ${response.status}.`
    traceOf(step).append(
      element('h3', {}, 'Request'),
      element('pre', {}, [`${method} ${path}`, bearer && `authorization: Bearer ${short(bearer)}`, body && `\n${json(body)}`].filter(Boolean).join('\n')),
      element('h3', {}, 'Answer ', element('span', { className: response.ok ? 'status' : 'status refused' }, `${response.status}`)),
      ...answer ? [element('pre', {}, json(answer.access_token ? { ...answer, access_token: short(answer.access_token) } : answer))] : [],
      ...changes)
  }
  return { ok: response.ok, status: response.status, body: answer }
}

function setPhone (number) {
  if (number !== phone) row = undefined
  phone = number
}

/** What changed in the row since the last look. */
async function rowChanges () {
  if (!phone) return []
  const title = element('h3', {}, 'In ', element('code', {}, 'users'))
  const response = await fetch(`/dev/user?phone=${encodeURIComponent(phone)}`)
  if (!response.ok) return [title, element('p', {}, 'Shown only on the machine that the service runs on.')]
  const before = row
  row = (await response.json()).row
  if (before === undefined) return [title, ...row ? [element('p', {}, 'The row as it is.'), table(row)] : [element('p', {}, 'No row of this number.')]]
  if (!row) return [title, element('p', {}, before ? 'The row is gone.' : 'No row of this number.')]
  const changed = Object.keys(row).filter((column) => row[column] !== before?.[column])
  if (changed.length === 0) return [title, element('p', {}, 'Nothing changed.')]
  return [title, table(Object.fromEntries(changed.map((column) => [column, row[column]])), before ?? {})]
}

/** Columns with their values, and with those of before where they are given. */
function table (values, before) {
  const shown = (value) => value === undefined ? '–' : String(value)
  const heads = ['column', ...before ? ['before'] : [], before ? 'after' : 'value']
  return element('table', {},
    element('thead', {}, element('tr', {}, ...heads.map((head) => element('th', { scope: 'col' }, head)))),
    element('tbody', {}, ...Object.entries(values).map(([column, value]) => element('tr', {},
      element('th', { scope: 'row' }, column),
      ...before ? [element('td', {}, shown(before[column]))] : [],
      element('td', {}, shown(value))))))
}

/** Shows what went wrong at its step, and at the fields that are to blame; returns whether all went well. */
function tell (step, { ok, body }) {
  const fields = Object.fromEntries((ok ? [] : body.errors ?? []).map(({ field, message }) => [field.slice(1), message]))
  const error = section(step).querySelector('.error')
  error.id = `${step}-error`
  error.textContent = ok ? '' : [body.detail, ...Object.entries(fields).map(([field, message]) => `${field} ${message}.`)].join(' ')
  for (const input of section(step).querySelectorAll('input')) {
    input.toggleAttribute('aria-invalid', false)
    input.removeAttribute('aria-describedby')
    if (!(input.name in fields)) continue
    input.setAttribute('aria-invalid', 'true')
    input.setAttribute('aria-describedby', error.id)
  }
  // A token that is dead is of no more use.
  if (!ok && body.status === 401) forget()
  return ok
}

const fieldsOf = (form) => Object.fromEntries(new FormData(form))
const orNull = (text) => text === '' ? null : text
const show = (...steps) => { for (const step of steps) section(step).hidden = false }
const hide = (...steps) => { for (const step of steps) section(step).hidden = true }
const whenSignedIn = ['token', 'account', 'addresses', 'end']

function forget () {
  localStorage.removeItem(tokenKey)
  hide(...whenSignedIn)
}

/** Does `work` when a form is sent, or a button pressed. */
function on (target, event, work) {
  byId(target).addEventListener(event, (happened) => {
    if (event === 'submit') happened.preventDefault()
    work(happened.target)
  })
}

on('number-form', 'submit', async (form) => {
  const { phone, language } = fieldsOf(form)
  if (!tell('number', await call('number', 'POST', '/api/v1/auth/send-verification', { body: { phone, ...language && { language } }, bearer: null }))) return
  await showInbox()
  show('code')
  byId('code').focus()
})

async function showInbox () {
  const response = await fetch('/dev/inbox')
  if (!response.ok) {
    byId('inbox').replaceChildren(element('li', {}, 'Shown only on the machine that the service runs on. The messages stand in its terminal, too.'))
    return
  }
  const { messages } = await response.json()
  const items = messages.map(({ to, text, language }) => {
    const use = element('button', { type: 'button', className: 'plain' }, 'Use its code')
    use.addEventListener('click', () => {
      byId('phone').value = to
      byId('code').value = /\d{6}/.exec(text)[0]
      show('code')
      byId('code').focus()
    })
    return element('li', {}, element('div', {}, to), element('div', { lang: language }, text), use)
  })
  byId('inbox').replaceChildren(...items.length ? items : [element('li', {}, 'No message yet.')])
}

on('code-form', 'submit', async (form) => {
  const body = { phone: byId('phone').value, ...fieldsOf(form) }
  const answer = await call('code', 'POST', '/api/v1/auth/verify-code', { body, bearer: null })
  if (!tell('code', answer)) return
  localStorage.setItem(tokenKey, answer.body.access_token)
  form.reset()
  await signedIn()
  byId('token-title').focus()
})

/** Shows what belongs to the token. */
async function signedIn () {
  const [header, claims] = token().split('.').slice(0, 2).map((part) => JSON.parse(new TextDecoder().decode(
    Uint8Array.from(atob(part.replaceAll('-', '+').replaceAll('_', '/')), (character) => character.charCodeAt(0)))))
  byId('token').replaceChildren(
    element('dt', {}, 'Token'), element('dd', { id: 'token-text' }, token()),
    element('dt', {}, 'Header'), element('dd', {}, json(header)),
    element('dt', {}, 'Claims'), element('dd', { id: 'claims' }, json(claims)),
    element('dt', {}, 'Good until'), element('dd', {}, new Date(claims.exp * 1000).toLocaleString()))
  hide('old')
  const account = await call('account', 'GET', '/api/v1/users/me')
  if (!account.ok) return forget()
  showAccount(account.body)
  await showAddresses()
  show(...whenSignedIn)
}

on('verify', 'click', async () => { tell('token', await call('token', 'GET', '/api/v1/auth/verify-token')) })

function showAccount (user) {
  byId('account-name').textContent = `${user.name}, ${user.formatted_phone}, ${user.country}`
  for (const name of ['full_name', 'profile_image_url', 'language']) byId('account-form').elements[name].value = user[name] ?? ''
}

on('account-form', 'submit', async (form) => {
  const { full_name: name, profile_image_url: picture, language } = fieldsOf(form)
  const answer = await call('account', 'PATCH', '/api/v1/users/me', { body: { full_name: orNull(name), profile_image_url: orNull(picture), language } })
  if (tell('account', answer)) showAccount(answer.body)
})

/** The address that the form changes; undefined where it adds one. */
let edited

async function showAddresses (isQuiet = false) {
  const { ok, body } = await call('addresses', 'GET', '/api/v1/profile/addresses', { isQuiet })
  if (!ok) return
  byId('addresses').replaceChildren(...body.addresses.length ? body.addresses.map(addressItem) : [element('li', {}, 'None yet.')])
}

function addressItem (address) {
  const button = (text, work) => {
    const made = element('button', { type: 'button', className: 'plain', ariaLabel: `${text} ${address.title}` }, text)
    made.addEventListener('click', work)
    return made
  }
  return element('li', {},
    element('strong', {}, address.title), address.is_default ? ' (default)' : '', element('div', {}, address.full_address),
    button('Edit', () => {
      edited = address.id
      byId('address-form-title').textContent = `Change ${address.title}`
      const { elements } = byId('address-form')
      for (const name of ['title', 'full_address', 'city', 'postal_code']) elements[name].value = address[name] ?? ''
      elements.is_default.checked = address.is_default
      elements.title.focus()
    }),
    button('Delete', async () => {
      const answer = await call('addresses', 'DELETE', `/api/v1/profile/addresses/${address.id}`)
      if (tell('addresses', answer)) await addressesChanged()
    }))
}

async function addressesChanged () {
  byId('address-form').reset()
  await showAddresses(true)
  byId('addresses-title').focus()
}

on('address-form', 'reset', () => {
  edited = undefined
  byId('address-form-title').textContent = 'Add an address'
})

on('address-form', 'submit', async (form) => {
  const { title, full_address: full, city, postal_code: postal, is_default: isDefault } = fieldsOf(form)
  const body = { title, full_address: full, city: orNull(city), postal_code: orNull(postal), is_default: isDefault === 'on' }
  const answer = edited
    ? await call('addresses', 'PATCH', `/api/v1/profile/addresses/${edited}`, { body })
    : await call('addresses', 'POST', '/api/v1/profile/addresses', { body })
  if (tell('addresses', answer)) await addressesChanged()
})

/** Ends the login by a request, and tries the token that was. */
async function end (method, path) {
  const old = token()
  const answer = await call('end', method, path)
  if (!tell('end', answer)) return
  section('old').querySelector('.trace')?.remove()
  const trace = section('end').querySelector('.trace')
  forget()
  const { status } = await call('old', 'GET', '/api/v1/users/me', { bearer: old })
  section('old').querySelector('.trace').prepend(...trace.childNodes)
  byId('old').textContent = `It was tried once more, and answered ${status}.`
  show('old')
  byId('old-title').focus()
}

on('logout', 'click', () => end('POST', '/api/v1/auth/logout'))
on('delete-account', 'click', () => { if (window.confirm('Delete the account and its addresses?')) end('DELETE', '/api/v1/users/me') })

await showInbox()
if (token()) await signedIn()
