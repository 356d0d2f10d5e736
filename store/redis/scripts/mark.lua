-- Looks at one mark, places it, or sets its number, atomically.
-- KEYS: the mark. ARGV: owner, incarnation, the least number, the next number or '',
-- what may be replaced: '' nothing, 'own' the owner's, 'any'; or 'remove' the owner's.
-- Returns: ok, absent, other, incarnation, behind or ahead; then the owner and the number found.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  if ARGV[5] == 'remove' then
    return {'ok', '', ''}
  end
  if ARGV[5] == '' then
    return {'absent', '', ''}
  end
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'incarnation', ARGV[2], 'beat', ARGV[3])
  return {'ok', ARGV[1], ARGV[3]}
end
local found = redis.call('HMGET', KEYS[1], 'owner', 'incarnation', 'beat')
local owner, beat = found[1] or '', found[3] or '0'
if ARGV[5] == 'remove' then
  if owner == ARGV[1] then
    redis.call('DEL', KEYS[1])
  end
  return {'ok', '', ''}
end
if ARGV[5] == 'any' or ARGV[5] == 'own' and owner == ARGV[1] then
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'incarnation', ARGV[2], 'beat', ARGV[3])
  return {'ok', ARGV[1], ARGV[3]}
end
if owner ~= ARGV[1] then
  return {'other', owner, beat}
end
if found[2] ~= ARGV[2] then
  return {'incarnation', owner, beat}
end
if tonumber(beat) < tonumber(ARGV[3]) then
  return {'behind', owner, beat}
end
if ARGV[4] ~= '' then
  if tonumber(beat) >= tonumber(ARGV[4]) then
    return {'ahead', owner, beat}
  end
  redis.call('HSET', KEYS[1], 'beat', ARGV[4])
end
return {'ok', owner, beat}
