-- Gives a lease back, if it is the owner's.
-- KEYS: owners, ends. ARGV: name, owner.
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and string.match(held, '^-?%d+\n(.*)$') == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
end
return 0
