import { Type } from 'typebox'
import { OpenLanguage, OpenMarket } from '../http/market-schemas.js'

// Inline, not among the components of the document: generators drop a component that no path refers to, but need it.
const MessageSchema = Type.Object({
  id: Type.String({ description: 'The id of the message, also in `webhook-id`. A second try has the same id.' }),
  to: Type.String({ description: 'The number in E.164.' }),
  text: Type.String({ description: 'The text of the message, with the code.' }),
  market: OpenMarket('The market of the number.'),
  language: OpenLanguage('The language of the text.')
}, { title: 'Message' })

const header = (name: string, description: string, example: string) =>
  ({ name, in: 'header', required: true, description, schema: { type: 'string' }, example })

/** What SMS_WEBHOOK_URL receives, as an entry of `webhooks` of OpenAPI 3.1. */
export const messageWebhook = {
  post: {
    operationId: 'deliverMessage',
    summary: 'Deliver a message',
    tags: ['webhooks'],
    description: 'The service posts each message to `SMS_WEBHOOK_URL` and signs it with `SMS_WEBHOOK_SECRET` after ' +
      'Standard Webhooks. After a connection error or a 5xx it tries once more with the same `webhook-id`. It does ' +
      'not follow redirects.',
    parameters: [
      header('webhook-id', 'The id of the message. Deliver each id once.', 'msg_2fZ1kJc0'),
      header('webhook-timestamp', 'Seconds since the epoch. Refuse a message older than five minutes.', '1795411800'),
      header('webhook-signature', '`v1,` and the Base64 of HMAC-SHA256 over `id.timestamp.body`.',
        'v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=')
    ],
    requestBody: {
      required: true,
      content: {
        'application/json': {
          schema: MessageSchema,
          example: { id: 'msg_2fZ1kJc0', to: '+996555123456', text: 'Marque: 483920', market: 'kg', language: 'ru' }
        }
      }
    },
    responses: {
      '2XX': { description: 'The message is accepted.' },
      default: { description: 'The message is refused: it will not arrive.' }
    }
  }
}
