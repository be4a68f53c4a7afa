import { languages, type Language } from '../phone/markets.js'

const sentences: Record<Language, (app: string, code: string) => string> = {
  ru: (app, code) => `${app}: ваш код ${code}`,
  en: (app, code) => `${app}: your code is ${code}`,
  ky: (app, code) => `${app}: сиздин код ${code}`
}

/** What a message says besides its code. */
export interface MessageOptions {
  appName: string
  webotpDomain: string | undefined
  androidHash: string | undefined
}

/**
 * The message for a code. The last line is for autofill: WebOTP (WICG, Origin-bound one-time codes) or Android's SMS
 * Retriever.
 */
export function smsText (options: MessageOptions, language: Language, code: string): string {
  const { appName, webotpDomain, androidHash } = options
  const autofill = webotpDomain ? `@${webotpDomain} #${code}` : androidHash
  return [sentences[language](appName, code), ...autofill ? ['', autofill] : []].join('\n')
}

/** The GSM 7-bit default alphabet (3GPP TS 23.038) with its extension, whose characters take two places. */
const gsm7 = /^[@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&'()*+,\-./0-9:;<=>?¡A-ZÄÖÑÜ§¿a-zäöñüà^{}\\[~\]|€\f]*$/
const gsm7Extension = /[\^{}\\[~\]|€\f]/g

/** The places that a text takes, and the limit of one segment: 160 in GSM 7-bit, otherwise 70 units of UTF-16. */
export function segmentOf (text: string): { places: number, limit: number } {
  if (!gsm7.test(text)) return { places: text.length, limit: 70 }
  return { places: text.length + (text.match(gsm7Extension)?.length ?? 0), limit: 160 }
}

/** The longest message that Android's SMS Retriever reads, in bytes of UTF-8. */
const retrieverBytes = 140

/** Returns one line per language whose message exceeds one segment or the limit of Android's SMS Retriever. */
export function messageIssues (options: MessageOptions): string[] {
  const autofill = options.webotpDomain ? 'SMS_WEBOTP_DOMAIN' : options.androidHash && 'SMS_ANDROID_HASH'
  const cause = autofill ? `SMS_APP_NAME and ${autofill} make` : 'SMS_APP_NAME makes'
  return languages.flatMap((language) => {
    const text = smsText(options, language, '000000')
    const { places, limit } = segmentOf(text)
    const bytes = Buffer.byteLength(text)
    const tooLong = (by: number, reader: string, size: string) =>
      by > 0 ? [`${cause} the ${language} message longer than ${reader} by ${by}: ${size}`] : []
    return [
      ...tooLong(places - limit, 'one SMS', `${places} of ${limit} characters`),
      ...autofill === 'SMS_ANDROID_HASH'
        ? tooLong(bytes - retrieverBytes, 'Android reads', `${bytes} of ${retrieverBytes} bytes`)
        : []
    ]
  })
}
