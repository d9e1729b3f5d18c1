-- Takes or renews a lease: 1 when it is held.
-- KEYS: owners, ends. ARGV: name, owner, until, now.
local owners, ends = KEYS[1], KEYS[2]
local now = tonumber(ARGV[4])
local held = redis.call('HGET', owners, ARGV[1])
if held then
  local until_, owner = string.match(held, '^(-?%d+)\n(.*)$')
  if owner ~= ARGV[2] and tonumber(until_) > now then
    return 0
  end
end
-- What ran out goes, a few at a time, or names that are used once would pile up.
for _, name in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', ARGV[4], 'LIMIT', 0, 16)) do
  redis.call('ZREM', ends, name)
  redis.call('HDEL', owners, name)
end
redis.call('HSET', owners, ARGV[1], ARGV[3] .. '\n' .. ARGV[2])
redis.call('ZADD', ends, ARGV[3], ARGV[1])
return 1
