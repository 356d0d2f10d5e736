-- Records are hashes. ARGV from 4: each record's hash, including the version, in the
-- format of DUMP.
local at = 4

local function skip()
  at = at + 1
end

local function add(key, expires)
  if expires then
    redis.call('RESTORE', key, expires, ARGV[at], 'ABSTTL')
  else
    redis.call('RESTORE', key, '0', ARGV[at])
  end
  at = at + 1
end

local function finish() end
