-- The items up to the cursor: those that were handed out and not acknowledged.
-- KEYS: lease, stream, attempts. ARGV: token, from, cursor, count.
-- Answers the items, and how often each was handed out, where that is more than once.
local items = redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[3], 'COUNT', ARGV[4])
local attempts = {}
for place, item in ipairs(items) do
    attempts[place] = redis.call('HGET', KEYS[3], item[1]) or ''
end
return {items, attempts}
