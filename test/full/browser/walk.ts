import { existsSync, mkdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import axe from 'axe-core'
import { chromium, type Browser, type Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { startProcess, until } from '../../helpers/server-process.js'
import { newPhone } from '../../helpers/service.js'
import { temporaryFolder } from '../../helpers/servers.js'

/*
 * npm run test:browser: walks through the playground of `npm run dev` in Chromium, in the widths of a phone and of a
 * desktop, and by keyboard alone. Screenshots of each step are kept in build/screenshots.
 */
const screenshots = 'build/screenshots'

function browserBinary (): string {
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    const found = (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, name)).find(existsSync)
    if (found) return found
  }
  throw new Error('the walk needs chromium in PATH: apt-get install chromium')
}

/** How a person uses the page: by pointer, or by keyboard alone. */
interface Hands {
  fill (selector: string, text: string): Promise<void>
  press (selector: string): Promise<void>
}

const byPointer = (page: Page): Hands => ({
  fill: (selector, text) => page.fill(selector, text),
  press: (selector) => page.click(selector)
})

function byKeyboard (page: Page): Hands {
  const longestWay = 100
  const goTo = async (selector: string) => {
    for (let steps = 0; steps < longestWay; steps++) {
      if (await page.evaluate(`document.activeElement.matches(${JSON.stringify(selector)})`)) return
      await page.keyboard.press('Tab')
    }
    throw new Error(`Tab does not lead to ${selector}`)
  }
  return {
    async fill (selector, text) {
      await goTo(selector)
      await page.keyboard.press('Control+A')
      await page.keyboard.type(text)
    },
    async press (selector) {
      await goTo(selector)
      await page.keyboard.press('Enter')
    }
  }
}

/** Opens a page that records what must not happen: console errors and warnings, and requests to other origins. */
async function watchedPage (browser: Browser, url: string, options: Parameters<Browser['newPage']>[0]) {
  const page = await browser.newPage({ locale: 'en-US', ...options })
  page.setDefaultTimeout(10_000)
  const complaints: string[] = []
  const strangers: string[] = []
  page.on(
    'console', (message) => { if (['error', 'warning'].includes(message.type())) complaints.push(message.text()) }
  )
  page.on('pageerror', (error) => { complaints.push(error.message) })
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== url && !request.url().startsWith('data:')) strangers.push(request.url())
  })
  return { page, complaints, strangers }
}

const token = (page: Page) => page.evaluate<string | null>("localStorage.getItem('phone-auth.token')")
/** The text beside a step. */
const trace = (page: Page, step: string) => page.locator(`[data-step=${step}] .trace`).innerText()
/** Waits until an element has the focus. */
const hasFocus = (page: Page, id: string) => page.locator(`#${id}:focus`).waitFor()
const isWide = (page: Page) => page.evaluate('document.documentElement.scrollWidth > window.innerWidth')

interface Walk { name: string, width: number, colorScheme: 'light' | 'dark', hands: (page: Page) => Hands }

async function walk (t: Test, browser: Browser, url: string, { name, width, colorScheme, hands }: Walk) {
  const { page, complaints, strangers } = await watchedPage(browser, url, {
    viewport: { width, height: 844 }, colorScheme
  })
  const { fill, press } = hands(page)
  let steps = 0
  /**
   * Checks the current page: takes a screenshot, applies axe's rules, and asserts that the page is not wider than the
   * screen.
   */
  const look = async (step: string) => {
    await page.screenshot({ path: join(screenshots, `${name}-${++steps}-${step}.png`), fullPage: true })
    await page.evaluate(axe.source)
    const { violations, passes } = await page.evaluate<axe.AxeResults>('axe.run()')
    t.strictSame(
      violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)]), [], `${step}: axe finds no violation`
    )
    t.ok(passes.length > 10)
    t.equal(await isWide(page), false, `${step}: no scrolling sideways`)
  }

  await page.goto(url)
  await look('start')
  await fill('#phone', '+1 800 555 1234')
  await press('#number-form button')
  await page.locator('#number-form .error:not(:empty)').waitFor()
  t.match(await trace(page, 'number'), '"code": "unsupported_phone"')
  await look('refused')

  const phone = newPhone('us')
  await fill('#phone', phone)
  await press('#number-form button')
  await page.locator('#inbox button').first().waitFor()
  // The message may arrive before the response.
  await until(async () => (await trace(page, 'number')).includes('Answer 200'))
  t.match(
    await trace(page, 'number'),
    /POST \/api\/v1\/auth\/send-verification[\s\S]*"phone": "\+1312[\s\S]*Answer 200[\s\S]*No row of this number/
  )
  t.equal(await page.locator('#number-form .error').innerText(), '')
  await hasFocus(page, 'code')
  t.equal(await page.getAttribute('#code', 'autocomplete'), 'one-time-code')
  t.equal(await token(page), null, 'nothing is stored before the login')
  await look('code')

  const [code] = /\d{6}/.exec(await page.locator('#inbox [lang]').first().innerText()) as unknown as [string]
  await fill('#code', code)
  await press('#code-form button')
  await page.locator('#addresses li').first().waitFor()
  const kept = await token(page) as string
  t.match(kept, /^eyJ[\w-]+\.eyJ[\w-]+\.[\w-]{43}$/, 'localStorage holds the token')
  t.equal(await page.locator('#token-text').innerText(), kept)
  t.match(JSON.parse(await page.locator('#claims').innerText()), { market: 'us', exp: Number })
  await hasFocus(page, 'token-title')
  t.match(await trace(page, 'code'), /last_login\s+–\s+\d{4}-/, 'the row came with the login')
  t.notMatch(await trace(page, 'code'), kept)
  t.match(await trace(page, 'account'), /GET \/api\/v1\/users\/me[\s\S]*Nothing changed/)
  t.match(await page.locator('#account-name').innerText(), `User ${phone}`)
  await press('#verify')
  await page.locator('[data-step=token] .trace').waitFor()
  t.match(await trace(page, 'token'), '"valid": true')
  t.equal(
    await page.locator('[role=status]').innerText(), 'GET /api/v1/auth/verify-token answered 200.',
    'a screen reader announces the response'
  )
  await look('signed-in')

  await fill('#full-name', 'Aigul Asanova')
  await press('#account-form button')
  await page.locator('#account-name', { hasText: 'Aigul Asanova' }).waitFor()
  t.match(await trace(page, 'account'), /PATCH[\s\S]*full_name\s+null\s+Aigul Asanova/)
  await look('account')

  await fill('#title', 'Home')
  await fill('#full-address', '742 Evergreen Terrace')
  await press('#address-form button')
  await page.locator('#addresses li', { hasText: 'Home (default)' }).waitFor()
  t.match(await trace(page, 'addresses'), /POST[\s\S]*Answer 201[\s\S]*Nothing changed/)
  await hasFocus(page, 'addresses-title')
  await press('#addresses [aria-label="Edit Home"]')
  await fill('#title', 'Parents')
  await press('#address-form button')
  await page.locator('#addresses li', { hasText: 'Parents (default)' }).waitFor()
  t.match(await trace(page, 'addresses'), /PATCH \/api\/v1\/profile\/addresses\/\d+/)
  await look('addresses')
  await press('#addresses [aria-label="Delete Parents"]')
  await page.locator('#addresses', { hasText: 'None yet.' }).waitFor()

  await page.reload()
  await page.locator('#addresses', { hasText: 'None yet.' }).waitFor()
  t.equal(await token(page), kept, 'a reload stays signed in')

  await press('#logout')
  await page.locator('[data-step=old] .trace').waitFor()
  await hasFocus(page, 'old-title')
  t.equal(await token(page), null, 'localStorage no longer holds the token')
  const old = await trace(page, 'old')
  t.match(old, /logout[\s\S]*is_active\s+true\s+false/)
  t.match(old, /GET \/api\/v1\/users\/me[\s\S]*Answer 401[\s\S]*"code": "invalid_token"/)
  t.equal(await page.locator('#account-form').isVisible(), false)
  await look('signed-out')

  t.strictSame(
    complaints.map((text) => /status of (\d+)/.exec(text)?.[1] ?? text), ['422', '401'],
    'the console shows only the provoked errors'
  )
  t.strictSame(strangers, [], 'no request to another origin')
  await page.close()
  return phone
}

t.test('the playground', { timeout: 110_000 }, async (t) => {
  mkdirSync(screenshots, { recursive: true })
  const { path: cwd, remove } = await temporaryFolder()
  t.teardown(remove)
  const unset = { DATABASE_URL: undefined, REDIS_URL: undefined, NODE_ENV: undefined }
  const env = { PORT: '0', METRICS_PORT: '0', RATE_LIMIT_IP_MAX: '1000', CODE_RESEND_SECONDS: '1', ...unset }
  const dev = startProcess(t, 'dev', { cwd, isGroup: true, env })
  const [, url] = await dev.shows(/listens on (http:\/\/localhost:\d+)\n/) as unknown as [string, string]
  const browser = await chromium.launch({
    executablePath: browserBinary(), args: process.getuid?.() === 0 ? ['--no-sandbox'] : []
  })
  t.teardown(() => browser.close())

  const walks: Walk[] = [
    { name: 'phone', width: 390, colorScheme: 'light', hands: byPointer },
    { name: 'desk', width: 1280, colorScheme: 'dark', hands: byPointer },
    { name: 'keyboard', width: 1280, colorScheme: 'light', hands: byKeyboard }
  ]
  for (const one of walks) {
    await t.test(
      `${one.name}: ${one.width} pixels, ${one.colorScheme}`, async (t) => { await walk(t, browser, url, one) }
    )
  }

  await t.test('the token of a deleted account is dead', async (t) => {
    const { page } = await watchedPage(browser, url, { viewport: { width: 320, height: 640 }, colorScheme: 'dark' })
    page.on('dialog', (dialog) => dialog.accept())
    await page.goto(url)
    await page.fill('#phone', newPhone('us'))
    await page.click('#number-form button')
    await hasFocus(page, 'code')
    await page.locator('#inbox button', { hasText: 'Use its code' }).first().click()
    await page.click('#code-form button')
    await page.click('#delete-account')
    await page.locator('[data-step=old] .trace').waitFor()
    t.match(await trace(page, 'old'), /DELETE[\s\S]*Answer 204[\s\S]*The row is gone[\s\S]*Answer 401/)
    t.equal(await token(page), null)
    t.equal(await isWide(page), false, 'no scrolling sideways at 320 pixels')
    await page.close()
  })

  await t.test('/docs tries a route with a token under its content security policy', async (t) => {
    const { page, complaints, strangers } = await watchedPage(browser, url, { viewport: { width: 1280, height: 844 } })
    await page.goto(`${url}/docs`)
    await page.click('.btn.authorize')
    await page.fill('.auth-container input', 'not.a.token')
    await page.click('.auth-btn-wrapper .authorize')
    await page.click('.btn-done')
    await page.click('#operations-auth-verifyToken .opblock-summary-control')
    await page.click('#operations-auth-verifyToken .execute')
    t.match(
      await page.locator('#operations-auth-verifyToken .live-responses-table').innerText(),
      /401[\s\S]*"code": "invalid_token"/
    )
    await page.screenshot({ path: join(screenshots, 'docs.png') })
    t.strictSame(complaints.map((text) => /status of (\d+)/.exec(text)?.[1] ?? text), ['401'])
    t.strictSame(strangers, [])
    await page.close()
  })
})
