-- Applies versioned writes of records, in their order. The whole call is atomic.
-- The format's script, which precedes this one, defines:
--   stored(key) -> version or nil, and "none", "ours" or "foreign"
--   write(key, owner, version, from, to)  makes the record exactly that of ARGV from..to,
--                 without an expiry; its first command must be one that Redis refuses
--                 when it is out of memory
-- KEYS: of each record its key, then its sidecar's; no key twice.
-- ARGV: not after (us) or '', horizon of the sidecars (ms), the format's argument; then
--       for each record: version, only or '', letters, expiry (ms) or '', the number of
--       the arguments that follow, and these: the format's.
-- Letters: o to overwrite, d to delete, k: the sidecar has no end.
-- Returns the outcome and the version of each write, up to the first that fails. If that
-- is the very first, its error is the call's.
-- Versions are compared as text: Lua's numbers would round them.
local late, horizon = ARGV[1], ARGV[2]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function apply(key, sidecar, at)
  local version, only, letters, expires = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local overwrite, deleted = string.find(letters, 'o', 1, true), string.find(letters, 'd', 1, true)

  local current, owner = stored(key)
  current = current or string.rep('0', 32)
  local remembered = redis.pcall('GET', sidecar)
  -- [tombstone], [expiry-version]: the version of a deleted or expired record.
  if is_version(remembered) and remembered > current then
    current = remembered
  end

  -- [not-after]: by the clock of the server that writes.
  if late ~= '' and clock[1] * 1000000 + clock[2] > tonumber(late) then
    return 'late', current
  end
  -- [owned-only]: a value without version is not migrator's.
  if owner == 'foreign' and not overwrite then
    return 'foreign', current
  end
  if only ~= '' then
    -- [retain-cas], [repair-unchanged]: another write came after the read.
    if only ~= current then
      return 'changed', current
    end
    if version < current and not overwrite then -- only a repair lowers a version
      return 'older', current
    end
  elseif version <= current then
    -- [newer-only]: nothing else runs meanwhile, so check and write are one step.
    return 'older', current
  end

  local function remember()
    if string.find(letters, 'k', 1, true) then
      redis.call('SET', sidecar, version)
      return
    end
    local from = now
    if not deleted and expires ~= '' and tonumber(expires) > now then
      -- [expiry-version]: the horizon begins when the record has expired.
      from = tonumber(expires)
    end
    redis.call('SET', sidecar, version, 'PXAT', string.format('%.0f', from + tonumber(horizon)))
  end

  if deleted and owner == 'foreign' then
    -- [owned-only]: another program's value stays, and the version beside it.
    remember()
    return 'foreign', version
  end
  if deleted or expires ~= '' and tonumber(expires) <= now then
    -- [tombstone]: the record is deleted, its version stays.
    redis.call('UNLINK', key)
    remember()
  else
    write(key, owner, version, at + 5, at + 4 + ARGV[at + 4])
    if expires ~= '' then
      redis.call('PEXPIREAT', key, expires)
      remember()
    elseif remembered then
      redis.call('UNLINK', sidecar)
    end
  end
  return 'applied', version
end

local replies, at = {apply(KEYS[1], KEYS[2], 4)}, 9 + ARGV[8]
for i = 3, #KEYS, 2 do
  local ok, outcome, version = pcall(apply, KEYS[i], KEYS[i + 1], at)
  if not ok then
    break
  end
  replies[i], replies[i + 1] = outcome, version
  at = at + 5 + ARGV[at + 4]
end
return replies
