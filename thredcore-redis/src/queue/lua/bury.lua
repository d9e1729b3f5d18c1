-- Moves an item from its stream to the dead letters, as one step; does nothing when it has gone.
-- KEYS: fence, stream, dead, attempts. ARGV: token, group, id, reason, attempts, limit.
-- Answers how many dead letters were dropped for want of room.
local item = redis.call('XRANGE', KEYS[2], ARGV[3], ARGV[3])[1]
local dropped = 0
if item then
    local time = redis.call('TIME')
    local at = time[1] .. string.format('%06d', time[2])
    redis.call('XADD', KEYS[3], '*', 'p', item[2][2], 'reason', ARGV[4], 'at', at, 'attempts', ARGV[5])
    dropped = redis.call('XTRIM', KEYS[3], 'MAXLEN', '=', ARGV[6])
end
redis.call('XACK', KEYS[2], ARGV[2], ARGV[3])
redis.call('XDEL', KEYS[2], ARGV[3])
redis.call('HDEL', KEYS[4], ARGV[3])
return dropped
