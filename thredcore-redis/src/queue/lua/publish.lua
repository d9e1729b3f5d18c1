-- Adds items, as far as there is room.
-- KEYS: items, order, waiting, last. ARGV: label, capacity (-1: any), payload…
-- Answers how many were added.
local room = #ARGV - 2
local capacity = tonumber(ARGV[2])
if capacity >= 0 then
    room = math.min(room, capacity - redis.call('HLEN', KEYS[1]))
end
if room <= 0 then
    return 0
end
add(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], {unpack(ARGV, 3, room + 2)})
return room
