"""The Lua scripts of the generation log: each is one atomic step on the server.

A generation has a hash (f fence, o opening, n characters, b bytes, s status, p process, stop) and beside it a string
with the text. If their sizes differ, the server dropped one of them: then the log counts as lost. The opening counts up
within a process: an append that was sent under an earlier one and comes late is refused, so after an `open` its writer
knows for good what the log holds. What is written is also posted to the generation's shard, a short stream, as fields
`generation:offset:kind[:status]`.
"""

from chat_app.data.log.base import FORGOTTEN
from chat_app.data.valkey import PREFIX

HASH = PREFIX + "log:gen:"
TEXT = PREFIX + "log:text:"
SHARD = PREFIX + "log:shard:"
CONTROL = PREFIX + "log:control"
WAKE = PREFIX + "log:wake:"

SHARDS = 16
POSTED = 2_000
"""Posts that a shard keeps. Whoever falls further behind reads the history again."""
KEPT_S = 3_600
"""How long a generation is kept after its last write."""

STORED, STALE, STOPPING = -1, -2, -3
"""Results of an append, STOPPING: stored, and a stop had been requested before the log was made. Any other is the
length at which the log stands."""

PIECE, END, RESET = "p", "e", "r"

_HEAD = f"""
local HASH, TEXT, SHARD, CONTROL = '{HASH}', '{TEXT}', '{SHARD}', '{CONTROL}'
local function post(shard, fields)
  redis.call('XADD', SHARD .. shard, 'MAXLEN', '~', {POSTED}, '*', unpack(fields))
  redis.call('EXPIRE', SHARD .. shard, {KEPT_S})
end
local function take(id, fence)
  redis.call('XADD', CONTROL, 'MAXLEN', '~', {POSTED}, '*', 'taken', id .. ':' .. fence)
end
local function keep(id)
  redis.call('EXPIRE', HASH .. id, {KEPT_S})
  redis.call('EXPIRE', TEXT .. id, {KEPT_S})
end
"""

FLUSH = (
    _HEAD
    + f"""
-- ARGV: appends as JSON [[id, fence, opening, offset, characters, text, status, shard, begins], …]; the process.
-- One with a status ends its generation at its offset. One that begins may make the log.
local function append(id, fence, opening, offset, chars, text, begins, known)
  local f, n, b, s = tonumber(known[1]), tonumber(known[2]) or 0, tonumber(known[3]) or 0, known[4]
  if f and (f > fence or s) then return {STALE} end
  local result = {STORED}
  if f ~= fence or known[5] ~= tostring(opening) then
    if s or not begins or n > 0 or f == fence then return n end
    redis.call('HSET', HASH .. id, 'f', fence, 'o', opening, 'p', ARGV[2])
    if redis.call('HEXISTS', HASH .. id, 'stop') == 1 then result = {STOPPING} end
  end
  if n ~= offset then return n end
  if redis.call('APPEND', TEXT .. id, text) ~= b + #text then
    redis.call('DEL', TEXT .. id, HASH .. id)
    return 0
  end
  redis.call('HSET', HASH .. id, 'n', offset + chars, 'b', b + #text)
  return result
end
local function finish(id, fence, length, status, known)
  local f, n, b, s = tonumber(known[1]), tonumber(known[2]) or 0, tonumber(known[3]) or 0, known[4]
  if f and f > fence then return {STALE} end
  if not s and redis.call('STRLEN', TEXT .. id) ~= b then
    redis.call('DEL', TEXT .. id, HASH .. id)
    return 0
  end
  if n ~= length then return n end
  if s then return {STORED}, true end
  redis.call('HSET', HASH .. id, 'f', fence, 'n', n, 'b', b, 's', status)
  return {STORED}
end
local results, posts = {{}}, {{}}
for i, e in ipairs(cjson.decode(ARGV[1])) do
  local id, fence, opening, offset, chars, text, status, shard, begins = unpack(e)
  local known = redis.call('HMGET', HASH .. id, 'f', 'n', 'b', 's', 'o')
  local result, posted, field
  if status == '' then
    result = append(id, fence, opening, offset, chars, text, begins == 1, known)
    field = id .. ':' .. offset .. ':{PIECE}'
  else
    result, posted = finish(id, fence, offset, status, known)
    field = id .. ':' .. offset .. ':{END}:' .. status
  end
  if (result == {STORED} or result == {STOPPING}) and not posted then
    keep(id)
    local fields = posts[shard]
    if not fields then fields = {{}}; posts[shard] = fields end
    fields[#fields + 1] = field
    fields[#fields + 1] = text
  end
  results[i] = result
end
for shard, fields in pairs(posts) do post(shard, fields) end
return results
"""
)

OPEN = (
    _HEAD
    + f"""
-- ARGV: id, fence, checkpoint, its characters, shard, process, opening. Returns {{text, status, stop}}, or STALE.
local id, fence, text, chars, opening = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[7])
local known = redis.call('HMGET', HASH .. id, 'f', 'n', 'b', 's', 'p', 'stop', 'o')
local f, n, b, s, p = tonumber(known[1]), tonumber(known[2]) or 0, tonumber(known[3]) or 0, known[4], known[5]
if f and f > fence then return {STALE} end
if f == fence and p == ARGV[6] and tonumber(known[7] or 0) > opening then return {STALE} end
local stored = redis.call('GET', TEXT .. id) or ''
if #stored ~= b then n = 0; b = 0; stored = '' end
if n < chars and not s then
  redis.call('SET', TEXT .. id, text)
  stored = text; n = chars; b = #text
  post(ARGV[5], {{id .. ':0:{RESET}', ''}})
end
redis.call('HSET', HASH .. id, 'f', fence, 'n', n, 'b', b, 'p', ARGV[6], 'o', opening)
keep(id)
-- Without a process it may have been begun somewhere and not written yet.
if p ~= ARGV[6] and (p or fence > 1) then take(id, ARGV[2]) end
return {{stored, s or '', known[6] or ''}}
"""
)

READ = (
    _HEAD
    + """
-- ARGV: id, shard. Returns {text, status, the shard's last post}.
local known = redis.call('HMGET', HASH .. ARGV[1], 'b', 's')
local text = redis.call('GET', TEXT .. ARGV[1]) or ''
if #text ~= (tonumber(known[1]) or 0) then text = '' end
local last = redis.call('XREVRANGE', SHARD .. ARGV[2], '+', '-', 'COUNT', 1)
return {text, known[2] or '', last[1] and last[1][1] or '0-0'}
"""
)

STOP = (
    _HEAD
    + f"""
-- ARGV: id.
redis.call('HSET', HASH .. ARGV[1], 'stop', '1')
redis.call('EXPIRE', HASH .. ARGV[1], {KEPT_S})
redis.call('XADD', CONTROL, 'MAXLEN', '~', {POSTED}, '*', 'stop', ARGV[1])
return 1
"""
)

FORGET = (
    _HEAD
    + f"""
-- ARGV: shard, ids of generations in it. A hash without text keeps out whoever still believes to be their writer. Posts
-- hold text of theirs too; what of others' goes with them is read from the history again.
local gone = {{}}
for i = 2, #ARGV do
  gone[ARGV[i]] = true
  redis.call('DEL', HASH .. ARGV[i], TEXT .. ARGV[i])
  redis.call('HSET', HASH .. ARGV[i], 'f', '{FORGOTTEN}')
  redis.call('EXPIRE', HASH .. ARGV[i], {KEPT_S})
end
for _, post in ipairs(redis.call('XRANGE', SHARD .. ARGV[1], '-', '+')) do
  for i = 1, #post[2], 2 do
    if gone[string.match(post[2][i], '^[^:]*')] then
      redis.call('XDEL', SHARD .. ARGV[1], post[1])
      break
    end
  end
end
return 1
"""
)
