package native

import (
	"net/netip"
	"net/url"
	"path"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"whodunit/internal/match"
)

const serviceAccountPrefix = "system:serviceaccount:"

// functions is what conditions can call besides CEL's own and its strings, sets, lists and math extensions.
func functions() []cel.EnvOption {
	str, list := cel.StringType, cel.ListType(cel.StringType)
	unary := func(name string, in, out *cel.Type, f func(ref.Val) ref.Val) cel.EnvOption {
		return cel.Function(name, cel.Overload(name+"_value", []*cel.Type{in}, out, cel.UnaryBinding(f)))
	}
	return []cel.EnvOption{
		cel.Function("glob",
			cel.Overload("glob_string_string", []*cel.Type{str, str}, cel.BoolType, cel.BinaryBinding(celGlob)),
			cel.Overload("glob_string_list", []*cel.Type{str, list}, cel.BoolType, cel.BinaryBinding(celGlob))),
		cel.Function("inCIDR",
			cel.Overload("inCIDR_string_string", []*cel.Type{str, str}, cel.BoolType, cel.BinaryBinding(celInCIDR)),
			cel.Overload("inCIDR_string_list", []*cel.Type{str, list}, cel.BoolType, cel.BinaryBinding(celInCIDR))),
		unary("isServiceAccount", str, cel.BoolType, func(v ref.Val) ref.Val {
			ns, name := serviceAccount(v)
			return types.Bool(ns != "" && name != "")
		}),
		unary("serviceAccountNamespace", str, str, func(v ref.Val) ref.Val { ns, _ := serviceAccount(v); return types.String(ns) }),
		unary("serviceAccountName", str, str, func(v ref.Val) ref.Val { _, n := serviceAccount(v); return types.String(n) }),
		unary("cleanPath", str, str, func(v ref.Val) ref.Val { return types.String(path.Clean(string(v.(types.String)))) }),
		unary("isSystemUser", str, cel.BoolType, func(v ref.Val) ref.Val { return types.Bool(isSystemUser(string(v.(types.String)))) }),
		unary("isPublicIP", str, cel.BoolType, func(v ref.Val) ref.Val { return types.Bool(isPublicIP(string(v.(types.String)))) }),
		unary("imageRegistry", str, str, func(v ref.Val) ref.Val { r, _ := splitImage(string(v.(types.String))); return types.String(r) }),
		unary("imageRepository", str, str, func(v ref.Val) ref.Val {
			r, path := splitImage(string(v.(types.String)))
			return types.String(strings.TrimPrefix(r+"/"+path, "/"))
		}),
		unary("images", cel.DynType, list, func(v ref.Val) ref.Val { return texts(images(v)) }),
		unary("hostPaths", cel.DynType, list, hostPaths),
		unary("podSpecs", cel.DynType, cel.ListType(cel.DynType), podSpecs),
		unary("containers", cel.DynType, cel.ListType(cel.DynType), containers),
		cel.Function("uriParam", cel.Overload("uriParam_string_string", []*cel.Type{str, str}, list, cel.BinaryBinding(celURIParam))),
		unary("execCommand", str, str, func(v ref.Val) ref.Val { return types.String(execCommand(string(v.(types.String)))) }),
		// uriParam(name) is uriParam(requestURI, name), execCommand() is execCommand(requestURI).
		cel.Macros(
			cel.GlobalMacro("uriParam", 1, func(f cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *common.Error) {
				return f.NewCall("uriParam", f.NewIdent("requestURI"), args[0]), nil
			}),
			cel.GlobalMacro("execCommand", 0, func(f cel.MacroExprFactory, _ ast.Expr, _ []ast.Expr) (ast.Expr, *common.Error) {
				return f.NewCall("execCommand", f.NewIdent("requestURI")), nil
			})),
	}
}

// each calls f for the string that v is, or for each string of the list that it is, until f returns true.
func each(v ref.Val, f func(string) bool) ref.Val {
	if s, ok := v.(types.String); ok {
		return types.Bool(f(string(s)))
	}
	l, ok := v.(traits.Lister)
	if !ok {
		return types.MaybeNoSuchOverloadErr(v)
	}
	for it := l.Iterator(); it.HasNext() == types.True; {
		s, ok := it.Next().(types.String)
		if !ok {
			return types.NewErr("a list of strings is wanted")
		}
		if f(string(s)) {
			return types.True
		}
	}
	return types.False
}

func celGlob(s, patterns ref.Val) ref.Val {
	text := string(s.(types.String))
	return each(patterns, func(p string) bool { return match.MatchGlob(p, text) })
}

func serviceAccount(v ref.Val) (namespace, name string) {
	rest, ok := strings.CutPrefix(string(v.(types.String)), serviceAccountPrefix)
	if !ok {
		return "", ""
	}
	namespace, name, _ = strings.Cut(rest, ":")
	return namespace, name
}

// celInCIDR is false where the address is none, so that a hostile X-Forwarded-For entry is simply outside; a bad CIDR is an
// error.
func celInCIDR(ip, cidrs ref.Val) ref.Val {
	addr := string(ip.(types.String))
	if _, err := netip.ParseAddr(addr); err != nil {
		return types.False
	}
	bad := ""
	in := each(cidrs, func(c string) bool {
		if badNetwork(c) {
			bad = c
		}
		return match.InCIDR(addr, c)
	})
	if bad != "" && in != types.True {
		return types.NewErr("inCIDR: %.60q is neither a network nor an address", bad)
	}
	return in
}

// celURIParam gives every value of one query parameter, decoded, in order; [] where there is none. A part of the query that
// is not well-formed is passed over alone, so one bad escape hides nothing else.
func celURIParam(uri, name ref.Val) ref.Val {
	return texts(uriParam(string(uri.(types.String)), string(name.(types.String))))
}

func uriParam(uri, name string) []string {
	_, query, _ := strings.Cut(uri, "?")
	var out []string
	for part := range strings.SplitSeq(query, "&") {
		k, v, _ := strings.Cut(part, "=")
		if uk, err := url.QueryUnescape(k); err != nil || uk != name {
			continue
		}
		if u, err := url.QueryUnescape(v); err == nil {
			v = u
		}
		out = append(out, v)
	}
	return out
}

// execCommand is the command of an exec: its words, which come as one query parameter each, with spaces between.
func execCommand(uri string) string { return strings.Join(uriParam(uri, "command"), " ") }
