-- Makes a consumer one of its topic's.
-- KEYS: alive, stream. ARGV: token, group.
if redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[2], '0', 'MKSTREAM').ok == nil then
    -- The group was there; a wrong type shows at the first use.
end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])
return 1
