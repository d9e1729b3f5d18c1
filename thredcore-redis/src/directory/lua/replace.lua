-- Sets all groups, roles and services.
-- KEYS: groups, roles, services, version. ARGV: channel, number of groups, number of roles, then
-- name and value of each group, each role, each service.
local place = 4
local counts = {tonumber(ARGV[2]), tonumber(ARGV[3]), #ARGV}
for kind = 1, 3 do
    redis.call('DEL', KEYS[kind])
    local stop = math.min(place + 2 * counts[kind], #ARGV)
    while place < stop do
        redis.call('HSET', KEYS[kind], ARGV[place], ARGV[place + 1])
        place = place + 2
    end
end
redis.call('PUBLISH', ARGV[1], redis.call('INCR', KEYS[4]))
return 1
