-- Takes a partition, if it is free or held by one that is known to be gone.
-- KEYS: owner. ARGV: token, the token of the one that is gone, or an empty text.
-- Answers the token of whoever has it now.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] and holder ~= ARGV[2] then
    return holder
end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
