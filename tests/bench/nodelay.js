// Loaded into Node-RED before it starts: TCP_NODELAY on its connections. There is no setting for it, and with Nagle's algorithm an
// acknowledgement waits 40 ms for the next one whenever few messages are under way.
'use strict';
const net = require('net');
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...args) {
	this.setNoDelay(true);
	return connect.apply(this, args);
};
