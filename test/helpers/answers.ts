import type { Answer } from './service.js'

/** What an error answers, whole but for its sentence, beside what it has to be: t.strictSame(...problemOf(answer, 401, 'Unauthorized', 'invalid_token')). */
export const problemOf = ({ status, body, headers }: Answer, expected: number, title: string, code: string, more: object = {}) => [
  { status, body: { ...body, detail: typeof body.detail } },
  { status: expected, body: { type: 'about:blank', title, status: expected, detail: 'string', code, request_id: headers.get('x-request-id'), ...more } }
] as const

/** A code that is not this one. */
export const wrongCode = (code: string) => code === '000000' ? '000001' : '000000'
