-- Notes that a consumer is there, and forgets those that have been silent for long.
-- KEYS: consumers. ARGV: token, length (ms), channel of the consumers.
-- Answers the consumer's place among all, from 0, their number, after how long (ms) the one that
-- has been silent for longest is forgotten, and 1 if the consumer was not among them before.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
local members, oldest, silent, new = {ARGV[1]}, now, false, 1
for at = 1, #known, 2 do
    local seen = tonumber(known[at + 1])
    if seen < now - ARGV[2] then
        silent = true
    elseif known[at] == ARGV[1] then
        new = 0
    else
        members[#members + 1] = known[at]
        oldest = math.min(oldest, seen)
    end
end
if silent then
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now - ARGV[2]))
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
if new == 1 then
    redis.call('PUBLISH', ARGV[3], 'joined')
end
table.sort(members)
for place, member in ipairs(members) do
    if member == ARGV[1] then
        return {place - 1, #members, math.max(0, oldest + ARGV[2] - now) + 1, new}
    end
end
