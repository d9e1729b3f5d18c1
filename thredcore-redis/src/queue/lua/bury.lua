-- Moves an item to the dead letters, as one step; does nothing when it has gone.
-- KEYS: fence, items, attempts, dead, bytes. ARGV: token, id, reason, attempts, times, moved, most bytes,
-- longest time (ms).
-- Answers how many dead letters were dropped; nothing if the fence is another's.
local payload = redis.call('HGET', KEYS[2], ARGV[2])
local dropped = 0
if payload then
    dropped = letter(KEYS[4], KEYS[5], tonumber(ARGV[7]), tonumber(ARGV[8]), payload, ARGV[3], ARGV[4],
        ARGV[5], ARGV[6])
end
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('HDEL', KEYS[3], ARGV[2])
return dropped
