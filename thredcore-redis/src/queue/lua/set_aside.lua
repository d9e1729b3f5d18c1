-- Sets an item aside that cannot be read; does nothing when it has gone.
-- KEYS: fence, items, attempts, aside. ARGV: token, id.
local payload = redis.call('HGET', KEYS[2], ARGV[2])
if payload then
    redis.call('HSET', KEYS[4], ARGV[2], payload)
end
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('HDEL', KEYS[3], ARGV[2])
return 1
