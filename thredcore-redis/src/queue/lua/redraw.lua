-- Notes how often messages have been handed out.
-- KEYS: alive, stream. ARGV: token, group, id, attempts, id, attempts…
for place = 3, #ARGV, 2 do
    redis.call('XCLAIM', KEYS[2], ARGV[2], ARGV[1], 0, ARGV[place], 'RETRYCOUNT', ARGV[place + 1], 'JUSTID')
end
return 1
