import t from 'tap'
import { formatPhone, maskPhone } from '../src/markets.js'

t.equal(formatPhone('+13128059851'), '+1 (312) 805-9851')
t.equal(maskPhone('+13128059851'), '+1•••••••51')
