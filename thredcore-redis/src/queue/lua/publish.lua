-- Adds items to a stream, as far as there is room, and rings for whoever waits for some.
-- KEYS: stream, waiting. ARGV: label, capacity (-1: any), payload…
-- Answers how many were added.
local room = #ARGV - 2
local capacity = tonumber(ARGV[2])
if capacity >= 0 then
    room = math.min(room, capacity - redis.call('XLEN', KEYS[1]))
end
if room <= 0 then
    return 0
end
for place = 3, room + 2 do
    redis.call('XADD', KEYS[1], '*', 'p', ARGV[place])
end
for _, channel in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    redis.call('PUBLISH', channel, ARGV[1])
end
redis.call('DEL', KEYS[2])
return room
