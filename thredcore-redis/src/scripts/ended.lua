-- Ended threds in the order of their starts, those that are meant as far as their heads say it: start TAB
-- thred of each; before them that of the last one that was looked at, empty if there are no more.
-- KEYS: ended threds' starts, threds. ARGV: from where, to where, how many to look at, and pattern,
-- reaction and participant, as they stand in heads, or empty texts, with a tab before each.
local members = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
local pattern, reaction, participant = ARGV[4], ARGV[5], ARGV[6]
local found, ids = {}, {}
for at, member in ipairs(members) do
  ids[at] = string.sub(member, 18)
end
local all = pattern == '' and reaction == '' and participant == ''
local records = (all or #ids == 0) and {} or redis.call('HMGET', KEYS[2], unpack(ids))
for at, member in ipairs(members) do
  local meant = all
  if not all and records[at] then
    local of, in_reaction, taking_part =
      string.match(records[at], '^%d+\t[^\t\n]*\t%x+(\t[^\t\n]*)\t%d+(\t[^\t\n]*)\t%a\na([^\n]*)\n')
    meant = of and (pattern == '' or of == pattern) and (reaction == '' or in_reaction == reaction)
      and (participant == '' or string.find(taking_part .. '\t', participant .. '\t', 1, true))
  end
  if meant then
    found[#found + 1] = member
  end
end
local last = #members == tonumber(ARGV[3]) and members[#members] or ''
return { last, found }
