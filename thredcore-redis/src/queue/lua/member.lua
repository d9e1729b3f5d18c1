-- Only a consumer that counts as alive goes on: KEYS[1] is the set of those, ARGV[1] its token.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return false
end
