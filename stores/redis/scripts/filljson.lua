-- Records are JSON documents in strings. ARGV from 3: each record's document.
local at = 3

local function skip()
  at = at + 1
end

local function add(key)
  redis.call('SET', key, ARGV[at])
  at = at + 1
end

local function finish() end
