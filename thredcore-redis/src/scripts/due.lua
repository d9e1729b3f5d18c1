-- Timers that are due, earliest first, as id and `at:entry`; and when the next one is.
-- KEYS: timers, threds. ARGV: time, limit.
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
local due = {}
for _, id in ipairs(ids) do
  local record = redis.call('HGET', KEYS[2], id)
  due[#due + 1] = id
  due[#due + 1] = record and string.match(record, '^%d+\t%a\t([^\t\n]*)\t') or ''
end
local next = redis.call('ZRANGE', KEYS[1], #ids, #ids, 'WITHSCORES')
return { due, next[2] or '' }
