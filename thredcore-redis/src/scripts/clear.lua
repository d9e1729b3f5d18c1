-- Removes published entries from outboxes.
-- KEYS: outboxes. ARGV: for each thred its id, and the entries' ids, each ended by a newline.
-- An outbox: for each entry id TAB when it was made TAB JSON NL.
for at = 1, #ARGV, 2 do
  local id = ARGV[at]
  local outbox = redis.call('HGET', KEYS[1], id)
  if outbox then
    local published = {}
    for entry in string.gmatch(ARGV[at + 1], '([^\n]*)\n') do
      published[entry] = true
    end
    local kept, all = {}, 0
    for line in string.gmatch(outbox, '[^\n]*\n') do
      all = all + 1
      if not published[string.match(line, '^[^\t]*')] then
        kept[#kept + 1] = line
      end
    end
    if #kept == 0 then
      redis.call('HDEL', KEYS[1], id)
    elseif #kept < all then
      redis.call('HSET', KEYS[1], id, table.concat(kept))
    end
  end
end
return 0
