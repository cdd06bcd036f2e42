"""The Lua scripts of the generation log: each is one atomic step on the server.

A generation has a hash (f fence, n characters, b bytes, s status, p process, stop) and beside it a string with the
text. If their sizes differ, the server dropped one of them: then the log counts as lost. What is written is also
posted to the generation's shard, a short stream, as fields `generation:offset:kind[:status]`.
"""

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

STORED, STALE = -1, -2
"""Answers for an entry; any other is the length at which the log stands."""

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
-- ARGV: entries as JSON [[id, fence, offset, characters, text, status, shard], …]; '1' if they were sent before.
-- An entry with a status ends its generation; its offset is then the length that its owner knows of.
local function append(id, fence, offset, chars, text, known)
  local f, n, b, s = tonumber(known[1]), tonumber(known[2]), tonumber(known[3]), known[4]
  if not f then return 0 end
  if f > fence or s then return {STALE} end
  if f < fence then return n end
  if n ~= offset then
    if ARGV[2] == '1' and n == offset + chars and redis.call('GETRANGE', TEXT .. id, b - #text, b - 1) == text then
      return {STORED}, true
    end
    return n
  end
  if redis.call('APPEND', TEXT .. id, text) ~= b + #text then
    redis.call('DEL', TEXT .. id, HASH .. id)
    return 0
  end
  redis.call('HSET', HASH .. id, 'n', offset + chars, 'b', b + #text)
  return {STORED}
end
local function finish(id, fence, length, status, known)
  local f, n, s = tonumber(known[1]), tonumber(known[2]) or 0, known[4]
  if f and f > fence then return {STALE} end
  if s then return {STORED}, true end
  if n < length then return n end
  redis.call('HSET', HASH .. id, 'f', fence, 'n', n, 'b', tonumber(known[3]) or 0, 's', status)
  return {STORED}
end
local answers, posts = {{}}, {{}}
for i, e in ipairs(cjson.decode(ARGV[1])) do
  local id, fence, offset, chars, text, status, shard = e[1], e[2], e[3], e[4], e[5], e[6], e[7]
  local known = redis.call('HMGET', HASH .. id, 'f', 'n', 'b', 's')
  local answer, posted, field
  if status == '' then
    answer, posted = append(id, fence, offset, chars, text, known)
    field = id .. ':' .. offset .. ':{PIECE}'
  else
    answer, posted = finish(id, fence, offset, status, known)
    field = id .. ':' .. (known[2] or 0) .. ':{END}:' .. status
  end
  if answer == {STORED} and not posted then
    keep(id)
    local fields = posts[shard]
    if not fields then fields = {{}}; posts[shard] = fields end
    fields[#fields + 1] = field
    fields[#fields + 1] = text
  end
  answers[i] = answer
end
for shard, fields in pairs(posts) do post(shard, fields) end
return answers
"""
)

OPEN = (
    _HEAD
    + f"""
-- ARGV: id, fence, checkpoint, its characters, shard, process. Answers {{text, status, stop}}, or the STALE number.
local id, fence, text, chars = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local known = redis.call('HMGET', HASH .. id, 'f', 'n', 'b', 's', 'p', 'stop')
local f, n, b, s = tonumber(known[1]), tonumber(known[2]) or 0, tonumber(known[3]) or 0, known[4]
if f and f > fence then return {STALE} end
local stored = redis.call('GET', TEXT .. id) or ''
if #stored ~= b then n = 0; b = 0; stored = '' end
if n < chars and not s then
  redis.call('SET', TEXT .. id, text)
  stored = text; n = chars; b = #text
  post(ARGV[5], {{id .. ':0:{RESET}', ''}})
end
redis.call('HSET', HASH .. id, 'f', fence, 'n', n, 'b', b, 'p', ARGV[6])
keep(id)
if known[5] and known[5] ~= ARGV[6] then take(id, ARGV[2]) end
return {{stored, s or '', known[6] or ''}}
"""
)

READ = (
    _HEAD
    + """
-- ARGV: id, shard. Answers {text, status, the shard's last post}.
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
