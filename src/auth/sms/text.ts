import type { Config } from '../../config.js'
import type { Language } from '../../markets.js'

const sentences: Record<Language, (app: string, code: string) => string> = {
  ru: (app, code) => `${app}: ваш код ${code}`,
  en: (app, code) => `${app}: your code is ${code}`,
  ky: (app, code) => `${app}: сиздин код ${code}`
}

/** The message of a code, with the autofill line of WebOTP or of Android's SMS Retriever as its last. */
export function smsText ({ smsAppName, smsWebotpDomain, smsAndroidHash }: Config, language: Language, code: string): string {
  const autofill = smsWebotpDomain ? `@${smsWebotpDomain} #${code}` : smsAndroidHash
  return [sentences[language](smsAppName, code), ...autofill ? ['', autofill] : []].join('\n')
}

/** What the GSM 7-bit default alphabet holds (3GPP TS 23.038), less the characters that take two places. */
const gsm7 = /^[@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&'()*+,\-./0-9:;<=>?¡A-ZÄÖÑÜ§¿a-zäöñüà]*$/

/** Whether a text needs more than one segment: 160 characters of GSM 7-bit, 70 of anything else. */
export const tooLong = (text: string) => text.length > (gsm7.test(text) ? 160 : 70)
