-- Notes that a consumer is there, and forgets those that have been silent for long.
-- KEYS: consumers. ARGV: token, length (ms), channel of the consumers.
-- Answers the consumer's place among all, from 0, their number, and after how long (ms) the one that
-- has been silent for longest is forgotten.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now - ARGV[2]))
if redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1]) == 1 then
    redis.call('PUBLISH', ARGV[3], 'joined')
end
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local left = math.max(0, oldest + ARGV[2] - now) + 1
local members = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(members)
for place, member in ipairs(members) do
    if member == ARGV[1] then
        return {place - 1, #members, left}
    end
end
return redis.error_reply('ERR a consumer that joined is not among the consumers')
