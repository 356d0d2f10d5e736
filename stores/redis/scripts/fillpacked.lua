-- Records are hashes. ARGV from 3: each record's hash, version and all, as DUMP
-- would say it.
local at = 3

local function skip()
  at = at + 1
end

local function add(key)
  redis.call('RESTORE', key, '0', ARGV[at])
  at = at + 1
end

local function finish() end
