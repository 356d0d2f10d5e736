-- Writes many new records: those that have neither a record nor a version. For each of
-- them it has the effect of apply.lua; it changes nothing about any other. The whole
-- call is atomic.
-- KEYS: for each record its key, then its sidecar's; no key twice.
-- ARGV: not after (us), version, horizon of the sidecars (ms) or '' where no record
-- expires, then the format's arguments, then, if records may expire, each one's expiry
-- (ms) or ''.
-- The format's script, which precedes this one, defines add(key, expires), called in
-- the order of the records for those that are written (expires is nil or a text),
-- skip() for the others, and finish() for what add has deferred.
-- Returns a text with 1 for each written record and 0 for each other; empty: too late.
local clock = redis.call('TIME')
-- [not-after]: by the clock of the server that writes.
if clock[1] * 1000000 + clock[2] > tonumber(ARGV[1]) then
  return ''
end
-- [backfill-newer]: a key that exists or existed is left to single writes.
local new = redis.call('EXISTS', unpack(KEYS)) == 0
local rows, horizon = #KEYS / 2, tonumber(ARGV[3])
if new and not horizon then
  for i = 1, #KEYS, 2 do
    add(KEYS[i])
  end
  finish()
  return string.rep('1', rows)
end
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local done = {}
for i = 1, rows do
  local key, beside, expires = KEYS[2 * i - 1], KEYS[2 * i]
  if horizon and ARGV[#ARGV - rows + i] ~= '' then
    expires = ARGV[#ARGV - rows + i]
  end
  if not new and redis.call('EXISTS', key, beside) > 0 or expires and tonumber(expires) <= now then
    skip()
    done[i] = '0'
  else
    add(key, expires)
    if expires then
      -- [expiry-version]: it outlives the record.
      redis.call('SET', beside, ARGV[2], 'PXAT', string.format('%.0f', tonumber(expires) + horizon))
    end
    done[i] = '1'
  end
end
finish()
return table.concat(done)
