import type { TestResponse } from './service.js'

/**
 * The actual and the expected problem, whole except for the text of `detail`:
 * t.strictSame(...problemOf(response, 401, 'Unauthorized', 'invalid_token')).
 */
export const problemOf = (
  { status, body, headers }: TestResponse, expected: number, title: string, code: string, more: object = {}
) => [
  { status, body: { ...body, detail: typeof body.detail } },
  {
    status: expected,
    body: {
      type: 'about:blank',
      title,
      status: expected,
      detail: 'string',
      code,
      request_id: headers.get('x-request-id'),
      ...more
    }
  }
] as const

/** A code that differs from `code`. */
export const wrongCode = (code: string) => code === '000000' ? '000001' : '000000'
