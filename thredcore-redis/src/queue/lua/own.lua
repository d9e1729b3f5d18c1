-- Only the owner of the partition goes on: KEYS[1] says who that is, ARGV[1] is the caller's token.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return false
end
