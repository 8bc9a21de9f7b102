{
  // The shortest text of a number; Jsonnet itself writes 0.99 as 0.98999999999999999.
  num(number):: '%.10g' % number,

  round(number, decimals):: local factor = std.pow(10, decimals); std.floor(number * factor + 0.5) / factor,

  // Unlike std.findSubstr, strReplace is native.
  contains(text, part):: std.strReplace(text, part, '') != text,

  // Replace texts by others, given as pairs.
  replace(text, pairs):: std.foldl(function(result, pair) std.strReplace(result, pair[0], pair[1]), pairs, text),

  // Apply a function to every string of a document.
  mapStrings(document, function_)::
    if std.isString(document) then function_(document)
    else if std.isArray(document) then [$.mapStrings(part, function_) for part in document]
    else if std.isObject(document) then std.mapWithKey(function(_, part) $.mapStrings(part, function_), document)
    else document,

  // Replace parts of a document, given as nested objects by the names and indices that lead to them.
  change(document, changes)::
    if !std.isObject(changes) then changes
    else if std.isArray(document) then
      std.mapWithIndex(
        function(index, part) if std.objectHas(changes, '' + index) then $.change(part, changes['' + index]) else part,
        document,
      )
    else document { [name]: $.change(document[name], changes[name]) for name in std.objectFields(changes) },

  // Stop with a message that names every unknown name.
  check(kind, names, known)::
    local unknown = std.setDiff(std.set(names), std.set(known));
    if unknown == [] then true else error 'late-exporter mixin: unknown %s %s; there are %s' % [
      kind,
      std.join(', ', unknown),
      std.join(', ', std.set(known)),
    ],
}
