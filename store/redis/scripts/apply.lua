-- Applies one versioned write of one record, atomically.
-- The format's script, which precedes this one, defines:
--   stored() -> version or nil, and "none", "ours" or "foreign"
--   write(owner)  makes the record exactly that of ARGV; its first command
--                 must be one that Redis refuses when it is out of memory
-- KEYS: the record, its sidecar
-- ARGV: version, only or '', not after (us) or '', '1' to overwrite, '1' to delete,
--       expiry (ms) or '', horizon of the sidecar (ms) or '' for no end, then the format's arguments
-- Versions are compared as text: Lua's numbers would round them.
local version, only, late, overwrite, deleted = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5] == '1'
local expires, horizon = ARGV[6], ARGV[7]

local current, owner = stored()
current = current or string.rep('0', 32)
local remembered = redis.pcall('GET', KEYS[2])
-- [tombstone], [expiry-version]: the version of a deleted or expired record.
if is_version(remembered) and remembered > current then
  current = remembered
end

local clock = redis.call('TIME')
-- [not-after]: by the clock of the server that writes.
if late ~= '' and clock[1] * 1000000 + clock[2] > tonumber(late) then
  return {'late', current}
end
-- [owned-only]: a value without version is not migrator's.
if owner == 'foreign' and not overwrite then
  return {'foreign', current}
end
if only ~= '' then
  -- [retain-cas], [repair-unchanged]: another write came after the read.
  if only ~= current then
    return {'changed', current}
  end
  if version < current and not overwrite then -- only a repair lowers a version
    return {'older', current}
  end
elseif version <= current then
  -- [newer-only]: nothing else runs meanwhile, so check and write are one step.
  return {'older', current}
end

local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function remember()
  if horizon == '' then
    redis.call('SET', KEYS[2], version)
    return
  end
  local from = now
  if not deleted and expires ~= '' and tonumber(expires) > now then
    -- [expiry-version]: the horizon begins when the record has expired.
    from = tonumber(expires)
  end
  redis.call('SET', KEYS[2], version, 'PXAT', string.format('%.0f', from + tonumber(horizon)))
end

if deleted or expires ~= '' and tonumber(expires) <= now then
  -- [tombstone]: the record is deleted, its version stays.
  redis.call('UNLINK', KEYS[1])
  remember()
elseif expires ~= '' then
  write(owner)
  redis.call('PEXPIREAT', KEYS[1], expires)
  remember()
else
  write(owner)
  redis.call('PERSIST', KEYS[1])
  if remembered then -- of whatever type
    redis.call('UNLINK', KEYS[2])
  end
end
return {'applied', version}
