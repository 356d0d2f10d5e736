-- Writes many new records: those of which there is neither a record nor a version.
-- What it does for one of them is what the script of a single write does; it
-- decides nothing about any other. All are written at once, before anything else runs.
-- KEYS: of each record its key, then its sidecar's; none twice.
-- ARGV: not after (us), version, then the format's.
-- The format's part, put before this one, defines add(key), called in the records' order
-- for all that are new, skip() for the others, and finish() for what add has put off.
-- Returns a text with 1 for each record written and 0 for each other; empty: it was late.
local clock = redis.call('TIME')
if clock[1] * 1000000 + clock[2] > tonumber(ARGV[1]) then
  return ''
end
if redis.call('EXISTS', unpack(KEYS)) == 0 then
  for i = 1, #KEYS, 2 do
    add(KEYS[i])
  end
  finish()
  return string.rep('1', #KEYS / 2)
end
local done = {}
for i = 1, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[i], KEYS[i + 1]) == 0 then
    add(KEYS[i])
    done[#done + 1] = '1'
  else
    skip()
    done[#done + 1] = '0'
  end
end
finish()
return table.concat(done)
