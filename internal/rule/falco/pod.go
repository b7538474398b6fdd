package falco

import (
	"strings"

	"whodunit/internal/audit"
)

// body is the request's object as it was stored. A JSON patch is a list: its operations are no object, and nothing is read out of them.
func body(ev *audit.Event) []byte {
	if isObject(ev.RequestObject) {
		return ev.RequestObject
	}
	return nil
}

// scalarAt is what stands at one place of the request's object.
func scalarAt(keys ...string) *field {
	return &field{level: request, get: func(r reader, ev *audit.Event, _ arg, yield yield) {
		if v := r.get(body(ev), keys...); v != nil {
			yield(text(v))
		}
	}}
}

// listAt is the elements of the array at one place of the request's object.
func listAt(keys ...string) *field {
	return &field{list: true, level: request, get: func(r reader, ev *audit.Event, _ arg, yield yield) {
		for el := range audit.Elements(array(r.get(body(ev), keys...))) {
			if !yield(text(el)) {
				return
			}
		}
	}}
}

// array is v if it is one.
func array(v []byte) []byte {
	if isArray(v) {
		return v
	}
	return nil
}

// eachAt is the values that elements of an array of the request's object have at a place; elements without one give none.
func eachAt(keys ...string) *field {
	return &field{list: true, arg: indexArg, level: request, get: func(r reader, ev *audit.Event, a arg, yield yield) {
		more := true
		r.each(body(ev), a.index, keys, func(v []byte) {
			if more && v != nil {
				more = yield(text(v))
			}
		})
	}}
}

// spreadAt is eachAt for places that hold arrays: it gives their elements.
func spreadAt(keys ...string) *field {
	return &field{list: true, arg: indexArg, level: request, get: func(r reader, ev *audit.Event, a arg, yield yield) {
		more := true
		r.each(body(ev), a.index, keys, func(v []byte) {
			for el := range audit.Elements(array(v)) {
				if more = more && yield(text(el)); !more {
					return
				}
			}
		})
	}}
}

func addRequestFields(t map[string]*field) {
	t["ka.req.binding.subjects"] = listAt("subjects")
	t["ka.req.binding.subjects.user_names"] = subjects("User", false)
	t["ka.req.binding.subjects.group_names"] = subjects("Group", false)
	t["ka.req.binding.subjects.serviceaccount_names"] = subjects("ServiceAccount", false)
	t["ka.req.binding.subjects.serviceaccount_ns_names"] = subjects("ServiceAccount", true)
	t["ka.req.binding.role"] = scalarAt("roleRef", "name")
	t["ka.req.configmap.obj"] = scalarAt("data")
	t["ka.req.role.rules"] = listAt("rules")
	for _, k := range [...]string{"apiGroups", "nonResourceURLs", "verbs", "resources"} {
		t["ka.req.role.rules."+k] = spreadAt("rules", k)
	}
	t["ka.req.service.type"] = scalarAt("spec", "type")
	t["ka.req.service.ports"] = servicePorts()
	t["ka.req.pod.host_ipc"] = scalarAt("spec", "hostIPC")
	t["ka.req.pod.host_pid"] = scalarAt("spec", "hostPID")
	t["ka.req.pod.host_network"] = scalarAt("spec", "hostNetwork")
	t["ka.req.container.host_network"] = scalarAt("spec", "hostNetwork")
	t["ka.req.pod.run_as_user"] = scalarAt("spec", "securityContext", "runAsUser")
	t["ka.req.pod.run_as_group"] = scalarAt("spec", "securityContext", "runAsGroup")
	t["ka.req.pod.fs_group"] = scalarAt("spec", "securityContext", "fsGroup")
	t["ka.req.pod.supplemental_groups"] = listAt("spec", "securityContext", "supplementalGroups")
	t["ka.req.pod.volumes.hostpath"] = eachAt("spec", "volumes", "hostPath", "path")
	t["ka.req.pod.volumes.flexvolume_driver"] = eachAt("spec", "volumes", "flexVolume", "driver")
	t["ka.req.pod.volumes.volume_type"] = &field{list: true, arg: indexArg, level: request, get: volumeTypes}
	t["ka.req.volume.hostpath"] = &field{arg: keyArg, level: request, get: hasHostPath}
}

// subjects is the names of a binding's subjects of one kind, with their namespace and a colon before them if wanted.
func subjects(kind string, namespaced bool) *field {
	return &field{list: true, level: request, get: func(r reader, ev *audit.Event, _ arg, yield yield) {
		for s := range audit.Elements(array(r.get(body(ev), "subjects"))) {
			k, name, ns := r.member(s, "kind"), r.member(s, "name"), r.member(s, "namespace")
			if k == nil || name == nil || text(k) != kind || namespaced && ns == nil {
				continue
			}
			v := text(name)
			if namespaced {
				v = text(ns) + ":" + v
			}
			if !yield(v) {
				return
			}
		}
	}}
}

// servicePorts gives one port a value; the plugin gives all in one text.
func servicePorts() *field {
	return &field{list: true, arg: indexArg, level: request, get: func(r reader, ev *audit.Event, a arg, yield yield) {
		ports := r.get(body(ev), "spec", "ports")
		if r.upstream || !isArray(ports) {
			if ports != nil {
				yield(text(ports))
			}
			return
		}
		i := 0
		for p := range audit.Elements(ports) {
			if (a.index < 0 || a.index == i) && !yield(text(p)) {
				return
			}
			i++
		}
	}}
}

// volumeTypes is the names of the volumes' members other than their name.
func volumeTypes(r reader, ev *audit.Event, a arg, yield yield) {
	volumes := r.get(body(ev), "spec", "volumes")
	if a.index >= 0 && isArray(volumes) {
		volumes = element(volumes, a.index)
	}
	for v := range audit.Leaves(volumes) {
		for name := range audit.Members(v) {
			if name != "name" && !yield(name) {
				return
			}
		}
	}
}

// hasHostPath is "true" if some volume mounts that path of the host, or with a trailing star one that begins so, else "false"; nothing
// for an object without volumes. The plugin looks at the first volume alone.
func hasHostPath(r reader, ev *audit.Event, a arg, yield yield) {
	index := -1
	if r.upstream {
		index = 0
	}
	found := false
	reached := r.each(body(ev), index, []string{"spec", "volumes", "hostPath", "path"}, func(v []byte) {
		if v == nil {
			return
		}
		p := text(v)
		prefix, star := strings.CutSuffix(a.key, "*")
		found = found || p == a.key || star && strings.HasPrefix(p, prefix)
	})
	switch {
	case found:
		yield("true")
	case reached:
		yield("false")
	}
}

// containerLists are the members of a pod's spec that hold containers.
var containerLists = [...]string{"containers", "initContainers", "ephemeralContainers"}

func addContainerFields(t map[string]*field) {
	for _, list := range containerLists {
		p := "ka.req.pod." + list + "."
		context := func(keys ...string) []string { return append([]string{"spec", list, "securityContext"}, keys...) }
		t[p+"name"] = whole(list, "name", nil)
		t[p+"image"] = whole(list, "image", nil)
		t[p+"image.repository"] = whole(list, "image", repository)
		t[p+"args"] = words(list, "args")
		t[p+"command"] = words(list, "command")
		if list != "ephemeralContainers" { // they have no ports
			t[p+"host_port"] = hostPorts(list)
		}
		t[p+"privileged"] = eachAt(context("privileged")...)
		t[p+"allow_privilege_escalation"] = eachAt(context("allowPrivilegeEscalation")...)
		t[p+"read_only_fs"] = eachAt(context("readOnlyRootFilesystem")...)
		t[p+"run_as_user"] = eachAt(context("runAsUser")...)
		t[p+"run_as_group"] = eachAt(context("runAsGroup")...)
		t[p+"eff_run_as_user"] = effective(list, "runAsUser")
		t[p+"eff_run_as_group"] = effective(list, "runAsGroup")
		t[p+"proc_mount"] = eachAt(context("procMount")...)
		t[p+"add_capabilities"] = capabilities(context("capabilities", "add"))
	}
	first := func(f *field) *field {
		return &field{level: request, get: func(r reader, ev *audit.Event, _ arg, yield yield) {
			f.get(r, ev, arg{index: 0}, func(v string) bool { yield(v); return false })
		}}
	}
	t["ka.req.container.image"] = first(t["ka.req.pod.containers.image"])
	t["ka.req.container.image.repository"] = first(t["ka.req.pod.containers.image.repository"])
	t["ka.req.container.privileged"] = &field{level: request, get: anyPrivileged}
}

// whole is a member that every container must have: where one lacks it, nothing is given of any.
func whole(list, key string, change func(reader, string) string) *field {
	keys := []string{"spec", list, key}
	return &field{list: true, arg: indexArg, level: request, get: func(r reader, ev *audit.Event, a arg, yield yield) {
		var out []string
		complete := true
		r.each(body(ev), a.index, keys, func(v []byte) {
			if complete = complete && v != nil; !complete {
				return
			}
			t := text(v)
			if change != nil {
				t = change(r, t)
			}
			out = append(out, t)
		})
		if complete {
			give(out, yield)
		}
	}}
}

// repository is an image's name without tag and digest. The plugin cuts at the first colon, which may be a registry's port.
func repository(r reader, image string) string {
	if r.upstream {
		image, _, _ = strings.Cut(image, ":")
		image, _, _ = strings.Cut(image, "@")
		return image
	}
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	return image
}

// words is a command line for each container that has one: its words, which must be strings, with spaces between.
func words(list, key string) *field {
	keys := []string{"spec", list, key}
	return &field{list: true, arg: indexArg, level: request, get: func(r reader, ev *audit.Event, a arg, yield yield) {
		var out []string
		good := true
		r.each(body(ev), a.index, keys, func(v []byte) {
			if v == nil || !good {
				return
			}
			if good = isArray(v); !good {
				return
			}
			var line []string
			for w := range audit.Elements(v) {
				if good = good && isString(w); !good {
					return
				}
				line = append(line, text(w))
			}
			out = append(out, strings.Join(line, " "))
		})
		if good {
			give(out, yield)
		}
	}}
}

func give(values []string, yield yield) {
	for _, v := range values {
		if !yield(v) {
			return
		}
	}
}

// hostPorts is the host ports of containers, or their own ports where they name none: with hostNetwork they are the same.
func hostPorts(list string) *field {
	keys := []string{"spec", list, "ports"}
	return &field{list: true, arg: indexArg, level: request, get: func(r reader, ev *audit.Event, a arg, yield yield) {
		var out []string
		good := true
		r.each(body(ev), a.index, keys, func(v []byte) {
			if v == nil || !good {
				return
			}
			good = isArray(v)
			for p := range audit.Elements(array(v)) {
				port := r.member(p, "hostPort")
				if port == nil {
					port = r.member(p, "containerPort")
				}
				if port != nil {
					out = append(out, text(port))
				}
			}
		})
		if good {
			give(out, yield)
		}
	}}
}

// effective is the user or group that each container begins with: its own, else the pod's, else 0. The plugin looks for both beside the
// security contexts instead of in them.
func effective(list, key string) *field {
	return &field{list: true, arg: indexArg, level: request, get: func(r reader, ev *audit.Event, a arg, yield yield) {
		pod, own := []string{"spec", "securityContext", key}, []string{"securityContext", key}
		if r.upstream {
			pod, own = []string{"spec", key}, []string{key}
		}
		id := "0"
		if v := r.get(body(ev), pod...); v != nil {
			id = text(v)
		}
		more := true
		if r.upstream {
			r.each(body(ev), a.index, append([]string{"spec", list}, own...), func(v []byte) {
				if e := id; more {
					if v != nil {
						e = text(v)
					}
					more = yield(e)
				}
			})
			return
		}
		containers := r.get(body(ev), "spec", list)
		if isArray(containers) && a.index >= 0 {
			containers = element(containers, a.index)
		}
		for c := range audit.Leaves(containers) {
			e := id
			if v := r.get(c, own...); v != nil {
				e = text(v)
			}
			if !yield(e) {
				return
			}
		}
	}}
}

// capabilities gives one capability a value; the plugin gives those of a container in one text.
func capabilities(keys []string) *field {
	one, all := spreadAt(keys...), eachAt(keys...)
	return &field{list: true, arg: indexArg, level: request, get: func(r reader, ev *audit.Event, a arg, yield yield) {
		if r.upstream {
			all.get(r, ev, a, yield)
			return
		}
		one.get(r, ev, a, yield)
	}}
}

func anyPrivileged(r reader, ev *audit.Event, _ arg, yield yield) {
	found := false
	keys := []string{"spec", "containers", "securityContext", "privileged"}
	if r.each(body(ev), -1, keys, func(v []byte) { found = found || string(v) == "true" }) {
		if found {
			yield("true")
		} else {
			yield("false")
		}
	}
}
