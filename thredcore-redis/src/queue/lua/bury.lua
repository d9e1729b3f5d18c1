-- Moves an item to the dead letters, as one step; does nothing when it has gone.
-- KEYS: fence, items, attempts, dead. ARGV: token, id, reason, attempts, limit.
-- Answers how many dead letters were dropped for want of room.
local payload = redis.call('HGET', KEYS[2], ARGV[2])
local dropped = 0
if payload then
    local time = redis.call('TIME')
    local at = time[1] .. string.format('%06d', time[2])
    redis.call('XADD', KEYS[4], '*', 'p', payload, 'reason', ARGV[3], 'at', at, 'attempts', ARGV[4])
    dropped = redis.call('XTRIM', KEYS[4], 'MAXLEN', '=', ARGV[5])
end
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('HDEL', KEYS[3], ARGV[2])
return dropped
