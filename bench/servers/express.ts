import { createSecretKey } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import express, { type RequestHandler } from 'express'
import jwt from 'jsonwebtoken'
import pg from 'pg'
import { ready } from '../harness/child.js'

/* The authenticated route as usual on Express: it verifies the JWT, then runs one prepared query for each request. */
const key = createSecretKey(process.env.JWT_SECRET as string, 'utf8')
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 })

const authenticate: RequestHandler = async (req, res, next) => {
  const [scheme, token] = req.headers.authorization?.split(' ') ?? []
  if (scheme !== 'Bearer' || !token) return res.status(401).json({ code: 'token_missing' })
  let claims
  try {
    claims = jwt.verify(token, key, { algorithms: ['HS256'] }) as { user_id: number, market: string }
  } catch {
    return res.status(401).json({ code: 'invalid_token' })
  }
  const { rows } = await pool.query({
    name: 'is_active', text: 'SELECT is_active FROM users WHERE id = $1', values: [claims.user_id]
  })
  if (rows[0]?.is_active !== true) return res.status(401).json({ code: 'invalid_token' })
  res.locals.user = claims
  next()
}

const app = express()
app.disable('x-powered-by')
app.disable('etag')
app.get('/auth/verify-token', authenticate, (_req, res) => {
  const { user_id: id, market } = res.locals.user
  res.set({ 'X-User-Id': String(id), 'X-User-Market': market, 'Cache-Control': 'no-store' })
  res.json({ valid: true, user_id: id, market })
})

const server = app.listen(0, '127.0.0.1', () => ready({ port: (server.address() as AddressInfo).port }))
