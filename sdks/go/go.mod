module github.com/stokehold/stokehold/sdks/go

go 1.19
