package main

import "github.com/spf13/pflag"

// list is a flag that may be repeated, of which each value is one string. pflag's StringArray is the
// same, but writes its default as CSV when it is declared, with a buffer of 4 KiB for each: a
// command has forty of them.
type list struct{ values *[]string }

// listVar declares a flag that may be repeated. short is its letter, or empty.
func listVar(fl *pflag.FlagSet, values *[]string, name, short, usage string) {
	fl.VarP(list{values}, name, short, usage)
}

// Set adds a value.
func (l list) Set(s string) error {
	*l.values = append(*l.values, s)
	return nil
}

// Append, Replace and GetSlice make it a pflag.SliceValue, from which completion knows that the
// flag may come again.
func (l list) Append(s string) error { return l.Set(s) }

func (l list) Replace(s []string) error {
	*l.values = s
	return nil
}

func (l list) GetSlice() []string { return *l.values }

// String is the default in the command's help, which shows none that is empty.
func (l list) String() string { return "" }

func (l list) Type() string { return "stringArray" }
