-- How many bytes and dead letters there are, and ids and sizes of the oldest.
-- KEYS: dead, bytes. ARGV: how many.
local oldest = {}
for _, found in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1])) do
    oldest[#oldest + 1] = found[1]
    oldest[#oldest + 1] = tonumber(found[2][2]) or 0
end
return {tonumber(redis.call('GET', KEYS[2]) or '0'), redis.call('XLEN', KEYS[1]), oldest}
