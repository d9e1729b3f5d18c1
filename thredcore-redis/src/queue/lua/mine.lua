-- The messages that a consumer has and not acknowledged.
-- KEYS: alive, stream. ARGV: token, group, from, count.
-- Answers the messages, how often each was handed out, and the last id looked at.
local messages, attempts, last = {}, {}, ''
for _, entry in ipairs(redis.call('XPENDING', KEYS[2], ARGV[2], ARGV[3], '+', ARGV[4], ARGV[1])) do
    last = entry[1]
    local message = redis.call('XRANGE', KEYS[2], last, last)[1]
    if message then
        messages[#messages + 1] = message
        attempts[#attempts + 1] = tostring(entry[4])
    else
        redis.call('XACK', KEYS[2], ARGV[2], last)
    end
end
return {messages, attempts, last}
