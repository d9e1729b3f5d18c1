-- Hands out messages that no consumer has had.
-- KEYS: alive, stream, waiting. ARGV: token, group, count, channel.
-- Answers the messages; when there are none, the channel is rung when there are some.
local found = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[1], 'COUNT', ARGV[3], 'STREAMS', KEYS[2], '>')
if not found then
    redis.call('SADD', KEYS[3], ARGV[4])
    return {}
end
return found[1][2]
