-- Hands out the items after the cursor, and notes in the group how far that was. Asking again with
-- the same cursor gives the same items.
-- KEYS: lease, stream, waiting. ARGV: token, cursor, count, group, channel.
-- Answers the items; when there are none, how many have been handed out and not acknowledged, and
-- the channel is rung when there are some.
local items = redis.call('XRANGE', KEYS[2], '(' .. ARGV[2], '+', 'COUNT', ARGV[3])
if #items == 0 then
    redis.call('SADD', KEYS[3], ARGV[5])
    return redis.call('XLEN', KEYS[2])
end
local last = items[#items][1]
if redis.pcall('XGROUP', 'SETID', KEYS[2], ARGV[4], last).err then
    redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[4], last)
end
return items
