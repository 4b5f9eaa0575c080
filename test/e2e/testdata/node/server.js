const http = require('http')
const ms = require('ms')

http.createServer((req, res) => res.end(`2 days are ${ms('2 days')} ms\n`))
  .listen(process.env.PORT || 3000, '127.0.0.1', () => console.log('listening'))
