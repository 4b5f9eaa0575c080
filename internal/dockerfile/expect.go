package dockerfile

import (
	"fmt"
	"slices"
	"strings"
)

// forms are how each instruction is written, for who got its arguments wrong.
var forms = map[string]string{
	"ADD": "ADD [FLAG...] SOURCE... DEST", "ARG": "ARG NAME[=DEFAULT]...", "COPY": "COPY [FLAG...] SOURCE... DEST",
	"ENV": "ENV NAME=VALUE...", "EXPOSE": "EXPOSE PORT[/tcp|/udp]...", "FROM": "FROM [--platform=PLATFORM] IMAGE [AS NAME]",
	"HEALTHCHECK": "HEALTHCHECK [FLAG...] CMD COMMAND, or HEALTHCHECK NONE", "LABEL": "LABEL KEY=VALUE...",
	"MAINTAINER": "MAINTAINER NAME", "ONBUILD": "ONBUILD INSTRUCTION", "SHELL": `SHELL ["/bin/bash", "-c"]`,
	"STOPSIGNAL": "STOPSIGNAL SIGNAL", "USER": "USER NAME[:GROUP]", "VOLUME": "VOLUME PATH...", "WORKDIR": "WORKDIR PATH",
}

// expectations say what was expected where a message with all of the parts was given.
var expectations = []struct {
	parts []string
	hint  string
}{
	{[]string{"invalid value", "for mode"}, "a mode is an octal number, such as 0755"},
	{[]string{"invalid value", "for uid"}, "a user is a number here"},
	{[]string{"invalid value", "for gid"}, "a group is a number here"},
	{[]string{"invalid value for size"}, "a size is a number of bytes, or of k, m or g"},
	{[]string{"invalid value for "}, "want true or false"},
	{[]string{"a mount of type ", " needs a target"}, "add target=PATH"},
	{[]string{"invalid secret mount"}, "add id=ID"},
	{[]string{"failed to parse csv mounts"}, "want KEY=VALUE pairs with commas between them, such as type=bind,target=/src"},
	{[]string{"must be a key=value pair"}, "want KEY=VALUE pairs with commas between them, such as type=bind,target=/src"},
	{[]string{"invalid network mode"}, "want default, none or host"},
	{[]string{"security ", " is not valid"}, "want sandbox or insecure"},
	{[]string{"arrays must be comprised of strings only"}, `every element is in double quotes: ["a", "1"]`},
	{[]string{"expecting boolean value for flag"}, "want true or false"},
	{[]string{"in duration"}, "a duration is like 30s or 1m30s"},
	{[]string{"time: invalid duration"}, "a duration is like 30s or 1m30s"},
	{[]string{"is not a number"}, "want a number, such as 3"},
	{[]string{"invalid signal"}, "want a name such as SIGTERM, or a number from 1 to 64"},
	{[]string{"invalid proto"}, "want tcp, udp or sctp"},
	{[]string{"source can't be a", "for COPY"}, "ADD takes URLs and git repositories"},
	{[]string{"base name (", "should not be blank"}, "give its ARG a default before the first FROM, or build with --build-arg"},
	{[]string{"empty platform value"}, "give its ARG a default before the first FROM, or build with --build-arg"},
	{[]string{"unexpected query "}, "want ref, tag, branch, commit, checksum, subdir, submodules, keep-git-dir, mtime or fetch-by-commit"},
	{[]string{"--checksum", "digest"}, "a checksum is sha256: and 64 hexadecimal digits"},
	{[]string{"isn't allowed as an ONBUILD trigger"}, "all but FROM, ONBUILD and MAINTAINER may follow ONBUILD"},
	{[]string{"looking for matching", "quote"}, `a quote within a value is written \" or \'`},
	{[]string{"invalid name for build stage"}, "a name begins with a letter and has letters, digits, - _ and . in it"},
	{[]string{"syntax error: missing '}'"}, "text with spaces in it has to be in quotes, such as \"${A:?not set}\""},
	{[]string{"unsupported modifier"}, "after the name may come - :- + :+ ? :? # ## % %% / //"},
	{[]string{"bad substitution"}, "want $NAME or ${NAME}"},
	{[]string{"invalid reference format"}, "want NAME[:TAG][@DIGEST], the name in small letters"},
	{[]string{"cannot be less than 1ms"}, "a duration is like 30s or 1m30s"},
	{[]string{"invalid mount target \"/\""}, "want a path below the root"},
	{[]string{"duplicate flag specified"}, "it may be given once"},
	{[]string{"invalid chmod parameter"}, "want a mode such as 0755 or u=rwX,go=rX"},
	{[]string{"glob [: syntax error"}, `if a list was meant: it is written ["a", "b"]`},
	{[]string{"syntax error in pattern"}, `[ begins a set of characters, such as [abc]; \[ is the character itself`},
}

// plainly says in words what a message of BuildKit's packages says in those of its code.
func plainly(msg string) string {
	if strings.HasSuffix(msg, "unsupported modifier (\ufffd) in substitution") {
		return strings.TrimSuffix(msg, "unsupported modifier (\ufffd) in substitution") + `missing "}"`
	}
	if rest, ok := strings.CutPrefix(msg, "strconv.ParseInt: parsing "); ok {
		word, _, _ := strings.Cut(rest, ":")
		return word + " is not a number"
	}
	return msg
}

// expected is a hint at what should be in place of what msg complains of, in an instruction of
// that name; empty where nothing can be said.
func expected(instruction, msg string) string {
	instruction = strings.ToUpper(instruction)
	if flag, ok := strings.CutPrefix(msg, "missing a value on flag: "); ok {
		return "write " + flag + "=VALUE"
	}
	for _, e := range expectations {
		if !slices.ContainsFunc(e.parts, func(part string) bool { return !strings.Contains(msg, part) }) {
			return e.hint
		}
	}
	for _, complaint := range []string{" requires ", " must have ", "names can not be blank", "can't find = in", "can not be an empty string", "Missing command", "takes no arguments", "Unknown type"} {
		if form := forms[instruction]; form != "" && strings.Contains(msg, complaint) && !strings.Contains(msg, "source") {
			return "want " + form
		}
	}
	return ""
}

// flagHint is about a flag that an instruction does not have.
func flagHint(instruction, flag string) string {
	if hint := DidYouMean(flag, flagNames(instruction)); hint != "" {
		return hint
	}
	var others []string
	for _, name := range instructionNames {
		if slices.Contains(flagNames(name), flag) {
			others = append(others, name)
		}
	}
	if len(others) > 0 {
		return fmt.Sprintf("%s is a flag of %s", flag, strings.Join(others, ", "))
	}
	if names := flagNames(instruction); len(names) > 0 {
		return "want " + strings.Join(names, ", ")
	}
	return strings.ToUpper(instruction) + " has no flags"
}
